"""Planted faults of own folders are found by the check, with remedies that fit them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.run.own_data import set_own_data
from milan_mm.upkeep.check_own import check_class_folders, check_images, check_label_pairs
from milan_mm.upkeep.findings import Findings
from tests.recipes.test_configs import load
from tests.run.own_data.folders import image_folder, label_pairs, write_image, write_labels

CHECKS = dict(pretrain=check_images, cls=check_class_folders, seg=check_label_pairs)
LAYOUT = "the folder does not fit"
DAMAGED = "images are damaged or cannot be read"


def _folder(task: str, root: Path) -> Path:
    """Sound data, with other photos in validation."""
    (label_pairs if task == "seg" else image_folder)(root)
    val = root / ("images/val" if task == "seg" else "val")
    for seed, path in enumerate(sorted(val.rglob("*.png"))):
        write_image(path, 100 + seed)
    return root


def _photo(task: str, root: Path) -> Path:
    return root / ("images/train/0.png" if task == "seg" else "train/red/0.png")


def check(task: str, root: Path) -> Findings:
    findings = Findings()
    assert CHECKS[task](root, findings, 0)
    return findings


@pytest.mark.parametrize("task", CHECKS)
def test_sound_data_have_no_faults(task: str, tmp_path: Path):
    assert not check(task, _folder(task, tmp_path)).faults


@pytest.mark.parametrize("task", CHECKS)
def test_a_damaged_image_is_named(task: str, tmp_path: Path):
    photo = _photo(task, _folder(task, tmp_path))
    photo.write_bytes(photo.read_bytes()[:100])
    assert check(task, tmp_path).faults[DAMAGED].names[0].startswith(f"{photo}: ")


@pytest.mark.parametrize("task", ["pretrain", "cls"])
def test_photos_of_a_type_that_is_not_read_are_counted(task: str, tmp_path: Path):
    photo = _photo(task, _folder(task, tmp_path))
    photo.rename(photo.with_suffix(".heic"))
    (name, *_) = check(task, tmp_path).faults[LAYOUT].names
    assert "1 of 6 photos" in name and "red/0.heic'; the limit is 1%: convert them" in name


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_images_of_both_splits_are_counted(task: str, tmp_path: Path):
    photo = _photo(task, _folder(task, tmp_path))
    shutil.copy(photo, str(photo).replace("train", "val"))
    (name,) = check(task, tmp_path).faults["splits share images"].names
    assert "validation images are training images too" in name


@pytest.mark.parametrize(
    ("task", "spoil", "message"),
    [
        ("cls", lambda root: shutil.rmtree(root / "val/red"), "does not have 1 of the 3 classes"),
        ("cls", lambda root: shutil.rmtree(root / "val"), "no folder val or valid or validation"),
        (
            "cls",
            lambda root: (root / "train/red/0.png").rename(root / "train/0.png"),
            "1 images out",
        ),
        ("seg", lambda root: (root / "classes.txt").unlink(), "classes.txt' does not exist: write"),
        ("seg", lambda root: (root / "annotations/val/1.png").unlink(), "have no partner, first"),
        (
            "seg",
            lambda root: [
                write_labels(path, np.resize([0, 1, 255], (32, 32)))
                for path in (root / "annotations/train").iterdir()
            ],
            "no pixel of 'red' is in 2 training labels",
        ),
    ],
)
def test_what_the_start_of_training_refuses_is_a_fault(
    task: str, spoil: Callable[[Path], object], message: str, tmp_path: Path
):
    spoil(_folder(task, tmp_path))
    assert any(message in name for name in check(task, tmp_path).faults[LAYOUT].names)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.zeros((32, 31)), "label maps have another size than their image"),
        (np.zeros((32, 32, 3)), "label maps cannot be read"),
        (np.resize([0, 7, 8, 9], (32, 32)), "label maps hold more than 2 values without a class"),
    ],
)
def test_faulty_label_maps_are_named(labels: np.ndarray, kind: str, tmp_path: Path):
    path = write_labels(_folder("seg", tmp_path) / "annotations/val/1.png", labels)
    (name,) = check("seg", tmp_path).faults[kind].names
    assert str(path) in name


@pytest.mark.parametrize(
    ("values", "message"),
    [([0, 9, 9, 9], "75% of the labelled pixels have no class"), ([255], "no pixel of .* a class")],
)
def test_what_a_start_refuses_in_all_labels_together_is_a_fault(values, message, tmp_path: Path):
    folder = _folder("seg", tmp_path)
    for path in (folder / "annotations/val").iterdir():
        write_labels(path, np.resize(values, (32, 32)))
    with pytest.raises(ValueError, match=message):
        set_own_data(load("seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"), str(folder))
    (name,) = check("seg", folder).faults[LAYOUT].names
    assert re.search(message, name)


def _fill(folder: Path, split: str, maps: list[list[int]]) -> None:
    for number, values in enumerate(maps):
        write_labels(folder / f"annotations/{split}/{number}.png", np.resize(values, (32, 32)))


def test_a_class_that_covers_nearly_everything_is_said(tmp_path: Path):
    folder = _folder("seg", tmp_path)
    _fill(folder, "train", [[0] * 15 + [1], [0]])
    notes = check("seg", folder).notes
    assert any("train: 'blue' (label 0) covers 96.9% of the labelled pixels" in n for n in notes)
    assert "train: 1 of 2 label maps hold a single class, first '1.png'" in notes


def test_labels_of_nothing_but_one_class_are_a_fault(tmp_path: Path):
    folder = _folder("seg", tmp_path)
    _fill(folder, "train", [[0], [0]])
    (name,) = check("seg", folder).faults["label maps hold a single class"].names
    assert name == "train: nothing but 'blue' (label 0)"


def test_a_background_is_not_painted_over_the_photos(tmp_path: Path):
    folder = _folder("seg", tmp_path)
    (folder / "classes.txt").write_text("_background_\ngreen\nred\n")
    _fill(folder, "train", [[0] * 6 + [1] * 10] * 2)
    *cells, legend = check_label_pairs(folder, Findings(), 0)
    assert legend.caption == "legend" and len(cells) == 4
    # noise of 32 px on cells of 240: in the middle of a field the photo is itself
    with Image.open(folder / "images/train/0.png") as photo:
        colours = {tuple(c) for c in np.asarray(photo).reshape(-1, 3).tolist()}
    assert tuple(cells[0].picture[3, 3].tolist()) in colours
