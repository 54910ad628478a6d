"""Pascal VOC: the convention of its boxes, its lists, and files that do not fit."""

from pathlib import Path

import pytest
from torchvision.datasets import VOCDetection

from milan_mm.errors import UserError
from tests.upkeep.convert.folders import (
    SCENE,
    annotations,
    converted,
    objects,
    photo,
    voc,
)

SPLITS = dict(train=["a", "b"], val=["c"])


def test_boxes_count_from_1_and_include_their_last_pixel(tmp_path: Path):
    converted(voc(tmp_path / "in", SPLITS), tmp_path / "out")
    assert objects(tmp_path / "out") == {"a.jpg": SCENE, "b.jpg": SCENE}
    assert objects(tmp_path / "out", "val") == {"c.jpg": SCENE}


def test_names_and_numbers_are_those_that_torchvision_reads(tmp_path: Path):
    root = voc(tmp_path / "VOCdevkit/VOC2012", SPLITS)
    lines = converted(tmp_path / "VOCdevkit", tmp_path / "out")
    judge = VOCDetection(str(tmp_path), year="2012", image_set="train")
    found = objects(tmp_path / "out")
    assert len(judge) == len(found)
    for image, target in judge:
        content = target["annotation"]
        assert image.size == (64, 48)
        wanted = []
        for thing in content["object"]:
            corner = {key: float(value) for key, value in thing["bndbox"].items()}
            x, y = corner["xmin"] - 1, corner["ymin"] - 1
            wanted.append((thing["name"], (x, y, corner["xmax"] - x, corner["ymax"] - y)))
        assert found[content["filename"]] == wanted
    assert root.is_dir() and "counted from 1" in lines[0]


def test_a_coordinate_of_0_shows_that_corners_count_from_0(tmp_path: Path):
    root = voc(tmp_path / "in", SPLITS, origin=0)
    path = root / "Annotations/c.xml"
    path.write_text(path.read_text().replace("<xmin>8.0</xmin>", "<xmin>0</xmin>"))
    lines = converted(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a.jpg": SCENE, "b.jpg": SCENE}
    assert "corners that count from 0" in lines[0]


@pytest.mark.parametrize(("origin", "left"), [(0, 9.0), (1, 8.0)])
def test_the_user_can_say_where_pixels_start(tmp_path: Path, origin: int, left: float):
    converted(voc(tmp_path / "in", SPLITS), tmp_path / "out", voc_origin=origin)
    assert objects(tmp_path / "out")["a.jpg"][0][1][0] == left


def test_difficult_objects_are_ignored_as_voc_does(tmp_path: Path):
    root = voc(tmp_path / "in", SPLITS, difficult=1)
    with pytest.raises(UserError, match="has an object, other than 6 crowds: there is nothing to"):
        converted(root, tmp_path / "out")
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("difficult>1", "difficult>0"))
    lines = converted(root, tmp_path / "out")
    assert [a["iscrowd"] for a in annotations(tmp_path / "out")] == [0, 0, 1, 1]
    assert lines[1].startswith("4 objects marked as a crowd or as difficult: neither learnt from")


@pytest.mark.parametrize(
    ("lists", "wanted"),
    [
        (dict(train=["a", "b"], val=["c"], trainval=["a", "b", "c"], test=["d"]), (2, 1, 1)),
        (dict(trainval=["a", "b", "c", "d"], test=["e"]), (3, 1, 1)),
        (dict(default=["a", "b", "c", "d"]), (3, 1, None)),  # of CVAT
        (dict(train=["a", "b"], val=["c"], cat_train=["a", "b"], cat_val=["c"]), (2, 1, None)),
    ],
)
def test_lists_decide_the_splits(tmp_path: Path, lists, wanted):
    converted(voc(tmp_path / "in", lists), tmp_path / "out", val_share=0.25)
    sizes = []
    for split in ("train", "val", "test"):
        there = (tmp_path / f"out/annotations/{split}.json").is_file()
        sizes.append(len(objects(tmp_path / "out", split)) if there else None)
    assert tuple(sizes) == wanted


def test_xml_beside_the_images_is_found_in_folders_of_splits(tmp_path: Path):
    """As Roboflow exports it."""
    whole = voc(tmp_path / "whole", SPLITS)
    for split, stems in dict(train=["a", "b"], valid=["c"]).items():
        (tmp_path / "in" / split).mkdir(parents=True)
        for stem in stems:
            for path in (whole / f"JPEGImages/{stem}.jpg", whole / f"Annotations/{stem}.xml"):
                path.rename(tmp_path / "in" / split / path.name)
    lines = converted(tmp_path / "in", tmp_path / "out")
    assert objects(tmp_path / "out") == {"a.jpg": SCENE, "b.jpg": SCENE}
    assert objects(tmp_path / "out", "val") == {"c.jpg": SCENE}
    assert [line.split()[0] for line in lines[-2:]] == ["cat", "dog"]  # and no others of VOC


@pytest.mark.parametrize("style", ["{1}/{0}", "{0}/{1}"])
def test_xml_is_found_in_folders_of_kinds_and_splits(tmp_path: Path, style: str):
    whole = voc(tmp_path / "whole", SPLITS)
    for split, stems in SPLITS.items():
        for stem in stems:
            for new, old in (("images", f"JPEGImages/{stem}.jpg"), ("xml", "")):
                path = whole / (old or f"Annotations/{stem}.xml")
                target = tmp_path / "in" / style.format(new, split) / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    converted(tmp_path / "in", tmp_path / "out")
    assert len(objects(tmp_path / "out")) == 2
    assert list(objects(tmp_path / "out", "val").values()) == [SCENE]


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path):
    for split, stem in (("train", "a"), ("valid", "b")):
        whole = voc(tmp_path / split, {"train": [stem]})
        (tmp_path / "in" / split).mkdir(parents=True)
        for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "xml")):
            path = whole / kind / f"{stem}.{ending}"
            path.rename(tmp_path / f"in/{split}/same.{ending}")
    photo(tmp_path / "in/valid/same.jpg", 5)
    converted(tmp_path / "in", tmp_path / "out")
    for split in ("train", "val"):
        assert objects(tmp_path / "out", split) == {"same.jpg": SCENE}
    new = tmp_path / "out/val/same.jpg"
    assert new.read_bytes() == (tmp_path / "in/valid/same.jpg").read_bytes()


def test_a_test_split_without_annotations_is_left_out(tmp_path: Path):
    """As VOC2012 has it."""
    root = voc(tmp_path / "in", SPLITS)
    (root / "ImageSets/Main/test.txt").write_text("y\nz\n")
    lines = converted(root, tmp_path / "out")
    assert "none of the 2 images of test has an annotation: left out" in lines
    assert not (tmp_path / "out/annotations/test.json").exists()


def _corrupt(root: Path) -> None:
    (root / "Annotations/a.xml").write_text("<annotation><object>")


def _forget(root: Path) -> None:
    (root / "JPEGImages/a.jpg").unlink()


def _list(root: Path) -> None:
    (root / "ImageSets/Main/train.txt").write_text("a\nb\nz\n")


def _resize(root: Path) -> None:
    photo(root / "JPEGImages/a.jpg", 1, orientation=8)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_corrupt, "whose annotation cannot be read (first: '"),
        (_forget, "that are missing, though they have an annotation (first: "),
        (_list, "that a list names, and that have no annotation (first: z)"),
        (_resize, "remove the orientation from the photos"),  # annotated as stored
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, spoil, message: str):
    root = voc(tmp_path / "in", SPLITS)
    spoil(root)
    with pytest.raises(UserError, match=r"1 of \d images would be dropped") as refused:
        converted(root, tmp_path / "out")
    assert message in str(refused.value)
