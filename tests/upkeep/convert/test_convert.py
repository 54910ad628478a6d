"""What all kinds share: recognising, writing whole or not at all, and files on the disk."""

import json
import os
from pathlib import Path

import pytest

from milan_mm.datasets.foreign import convert_hint, find_foreign, split_of
from milan_mm.errors import ExistingFileError, MissingFileError, UserError
from milan_mm.upkeep.convert import writing
from milan_mm.upkeep.convert.writing import unique_names
from tests.run.own_data.folders import coco_folder, image_folder, label_pairs
from tests.upkeep.convert.folders import (
    coco,
    converted,
    cvat,
    objects,
    photo,
    roboflow_masks,
    voc,
    yolo,
)


def _class_folders(root: Path) -> Path:
    for c, name in enumerate(("cat", "dog")):
        for n in range(5):
            photo(root / name / f"{n}.webp", 10 * c + n)
    return root


def _export(root: Path) -> Path:
    photo(root / "images/0.jpg")
    (root / "result.json").write_text(json.dumps(coco(["images/0.jpg"])))
    return root


def _masks(root: Path) -> Path:
    whole = label_pairs(root)
    for kind in ("images", "annotations"):
        for path in (whole / kind / "train").iterdir():
            path.rename(whole / kind / path.name)
        for path in (whole / kind / "val").iterdir():
            path.unlink()
        for split in ("train", "val"):
            (whole / kind / split).rmdir()
    return whole


MAKERS = {
    "yolo": yolo,
    "voc": lambda root: voc(root, dict(train=["a"], val=["b"])),
    "cvat": lambda root: cvat(root, ""),
    "coco": _export,
    "roboflow-masks": roboflow_masks,
    "masks": _masks,
    "classes": _class_folders,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_folder_is_recognised_also_inside_another(tmp_path: Path, kind: str):
    root = MAKERS[kind](tmp_path / "outer/archive")
    for place in (root, tmp_path / "outer"):
        found = find_foreign(place)
        assert found and found[0].name == kind
        assert found[1] == root or kind == "coco"  # whose file is found from both
    assert f"tools/convert_data.py {root} archive-{found[0].task}" in convert_hint(
        root, found[0].task
    )


@pytest.mark.parametrize("make", [coco_folder, image_folder, label_pairs])
def test_a_folder_that_data_takes_needs_no_conversion(tmp_path: Path, make):
    assert convert_hint(make(tmp_path / "mine"), "det") is None


def test_names_of_splits_are_words_of_their_own():
    names = dict(instances_Train="train", valid="val", val2017="val", _annotations=None)
    names |= dict(trains=None, interval=None, testing="test", Validation="val", contest=None)
    assert {name: split_of(name) for name in names} == names


def test_class_folders_are_split(tmp_path: Path):
    lines = converted(_class_folders(tmp_path / "in"), tmp_path / "out")
    for split, count in (("train", 4), ("val", 1)):
        for name in ("cat", "dog"):
            assert len(list((tmp_path / f"out/{split}/{name}").iterdir())) == count
    assert "  cat           4         1" in lines


@pytest.mark.parametrize("by", ["hard_link", "symbolic_link", "copy"])
def test_images_are_linked_or_copied(tmp_path: Path, by: str):
    root = yolo(tmp_path / "in")
    converted(root, tmp_path / "out", place=getattr(writing, by))
    source, target = root / "images/train/0.jpg", tmp_path / "out/train/0.jpg"
    assert target.read_bytes() == source.read_bytes()
    assert target.is_symlink() == (by == "symbolic_link")
    if by != "symbolic_link":
        assert os.path.samefile(source, target) == (by == "hard_link")


def test_a_link_across_file_systems_becomes_a_copy(tmp_path: Path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    converted(yolo(tmp_path / "in"), tmp_path / "out")
    assert len(objects(tmp_path / "out")) == 3


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path: Path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        converted(yolo(tmp_path / "in"), tmp_path / "out", place=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_folder_with_files_is_not_replaced(tmp_path: Path):
    root = yolo(tmp_path / "in")
    (tmp_path / "out").mkdir()
    converted(root, tmp_path / "out")  # an empty one is taken
    with pytest.raises(ExistingFileError, match="exists already"):
        converted(root, tmp_path / "out")
    with pytest.raises(UserError, match="is inside of"):
        converted(root, root / "new")


def test_a_link_to_an_empty_folder_is_filled(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    converted(yolo(tmp_path / "in"), tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk/train/0.jpg").is_file()


def test_a_source_without_any_image_asks_for_their_folder(tmp_path: Path):
    root = _export(tmp_path / "in")
    (root / "images/0.jpg").unlink()
    with pytest.raises(UserError, match=r"1 that are missing, .* give their folder by --images"):
        converted(root, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "does not exist"),
        ("a.zip", "is an archive"),
        ("empty", "has none of the known layouts"),
        ("bad", r"data\.yaml' is not YAML that can be read"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, message: str):
    (tmp_path / "a.zip").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (yolo(tmp_path / "bad") / "data.yaml").write_text("names: [cat\n\ttrain: a\n")
    with pytest.raises((MissingFileError, UserError), match=message):
        converted(tmp_path / name, tmp_path / "out")


def test_names_that_meet_get_numbers():
    names = ["a.jpg", "b/a.jpg", "A.jpg", "a.jpg"]
    assert unique_names(names) == ["a.jpg", "b/a.jpg", "A-2.jpg", "a-3.jpg"]


def test_a_huge_or_hostile_data_yaml_is_no_code_and_no_bomb(tmp_path: Path):
    root = yolo(tmp_path / "in")
    marker = tmp_path / "ran"
    (root / "data.yaml").write_text(
        f"names: !!python/object/apply:os.system ['touch {marker}']\ntrain: images/train\n"
    )
    with pytest.raises(UserError):
        converted(root, tmp_path / "out")
    assert not marker.exists()
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 30))
    (root / "data.yaml").write_text(f"l0: &l0 [x]\n{levels}names: *l29\ntrain: images/train\n")
    with pytest.raises(UserError, match="class 0 of"):
        converted(root, tmp_path / "out")
