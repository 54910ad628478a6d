"""Data are the same when their images are, wherever they lie and whatever lies beside them."""

import shutil
from pathlib import Path

import pytest

from milan_mm.datasets.identity import data_hash, image_folder
from tests.run.own_data.folders import image_folder as make_images


def _hash(root: Path) -> str | None:
    return data_hash(dict(data_root=str(root), data_prefix="train"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_images(tmp_path / "a")


def test_a_moved_copy_is_the_same(root: Path, tmp_path: Path):
    assert _hash(root) == _hash(shutil.copytree(root, tmp_path / "b")) is not None


@pytest.mark.parametrize("name", ["Thumbs.db", "red/notes.txt", "red/.DS_Store"])
def test_files_that_no_training_reads_do_not_count(root: Path, name: str):
    before = _hash(root)
    (root / "train" / name).write_text("x")
    assert _hash(root) == before


def test_a_link_that_leads_nowhere_does_not_count_as_in_training(root: Path):
    before = _hash(root)
    (root / "train/red/gone.png").symlink_to("nowhere.png")
    assert _hash(root) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "red/0.png").rename(folder / "red/9.png"),
        lambda folder: (folder / "red/0.png").unlink(),
        lambda folder: (folder / "red/0.png").write_bytes(b"another"),
    ],
)
def test_other_images_are_other_data(root: Path, change):
    before = _hash(root)
    change(root / "train")
    assert _hash(root) != before


def test_files_of_other_types_count_where_there_are_no_images(tmp_path: Path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/batch").write_text("1")
    before = _hash(tmp_path)
    (tmp_path / "train/batch").write_text("12")
    assert None is not before != _hash(tmp_path)


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        (dict(data_root="a", data_prefix="train"), "a/train"),
        (dict(data_root="a", data_prefix=dict(img_path="images", seg_map_path="b")), "a/images"),
        (dict(data_root="a", split="val"), "a/val"),
        (dict(data_prefix="train"), "train"),
        (dict(data_root="a"), "a"),
        ({}, None),
        (dict(data_root="a", data_prefix=dict(img="images")), None),
    ],
)
def test_the_folder_of_images_is_found_in_every_spelling(settings: dict, folder: str | None):
    assert image_folder(settings) == (folder and Path(folder))
