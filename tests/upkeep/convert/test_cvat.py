"""CVAT's XML: every shape, splits of a project, and files that are not what they seem."""

from pathlib import Path

import numpy as np
import pytest
from labelformat.formats import CVATObjectDetectionInput
from pycocotools import mask as coco_mask

from milan_mm.errors import UserError
from tests.upkeep.convert.folders import (
    HEIGHT,
    SCENE,
    WIDTH,
    annotations,
    converted,
    cvat,
    objects,
    photo,
)

BOXES = (
    '<box label="cat" xtl="8.0" ytl="6.0" xbr="32.0" ybr="24.0"/>'
    '<box label="dog" xtl="32.0" ytl="12.0" xbr="52.0" ybr="42.0"/>'
)


def _mask_of(annotation: dict) -> np.ndarray:
    runs = annotation["segmentation"]
    if isinstance(runs, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(runs, HEIGHT, WIDTH))
    return coco_mask.decode(runs).astype(bool)


def _only(root: Path, out: Path) -> dict:
    """The object on the first image."""
    converted(root, out, val_share=0.5)
    return annotations(out)[0]


def test_boxes_are_those_that_labelformat_reads(tmp_path: Path):
    root = cvat(tmp_path / "in", BOXES)
    converted(root, tmp_path / "out", val_share=0.5)
    judge = list(CVATObjectDetectionInput(root / "annotations.xml").get_labels())
    found = objects(tmp_path / "out") | objects(tmp_path / "out", "val")
    assert len(judge) == len(found) == 2
    for label in judge:
        boxes = [(t.category.name, t.box) for t in label.objects]
        wanted = [(n, (b.xmin, b.ymin, b.xmax - b.xmin, b.ymax - b.ymin)) for n, b in boxes]
        assert found[label.image.filename] == wanted == SCENE


def test_a_polygon_is_a_mask(tmp_path: Path):
    root = cvat(tmp_path / "in", '<polygon label="dog" points="8,8;24.5,8;24.5,40;8,40"/>')
    found = _only(root, tmp_path / "out")
    assert found["bbox"] == [8, 8, 16.5, 32]
    assert found["segmentation"] == [[8, 8, 24.5, 8, 24.5, 40, 8, 40]]


def test_a_mask_is_of_rows_in_its_window_from_outside_on(tmp_path: Path):
    """CVAT's documentation: runs in the order of rows, of the window, the first one outside."""
    shape = '<mask label="cat" rle="1, 2, 3, 1, 1" left="5" top="7" width="4" height="2"/>'
    found = _only(cvat(tmp_path / "in", shape), tmp_path / "out")
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[7:9, 5:9] = [[0, 1, 1, 0], [0, 0, 1, 0]]
    assert (_mask_of(found) == wanted).all()
    assert found["bbox"] == [6, 7, 2, 2] and found["area"] == 3


def test_a_rotated_box_turns_clockwise_and_keeps_its_outline(tmp_path: Path):
    shape = '<box label="cat" xtl="20" ytl="20" xbr="40" ybr="24" rotation="90"/>'
    found = _only(cvat(tmp_path / "in", shape), tmp_path / "out")
    assert found["bbox"] == pytest.approx([28, 12, 4, 20])
    shape = shape.replace('rotation="90"', 'rotation="30"')
    found = _only(cvat(tmp_path / "in2", shape), tmp_path / "out2")
    corner = found["segmentation"][0][2:4]  # the upper right one has gone down
    assert corner[1] > 22 and corner[0] > 30


def test_an_ellipse_has_its_own_area(tmp_path: Path):
    shape = '<ellipse label="cat" cx="30" cy="24" rx="20" ry="10"/>'
    found = _only(cvat(tmp_path / "in", shape), tmp_path / "out")
    assert found["area"] == pytest.approx(np.pi * 200, rel=0.02)
    assert found["bbox"] == pytest.approx([10, 14, 40, 20])


def test_boxes_beside_outlines_leave_boxes_of_all(tmp_path: Path):
    root = cvat(tmp_path / "in", BOXES + '<polygon label="dog" points="8,8;24,8;24,40"/>')
    lines = converted(root, tmp_path / "out", val_share=0.5)
    assert "2 of 6 objects have a mask: all masks are left out, and boxes kept" in lines
    assert [a["segmentation"] for a in annotations(tmp_path / "out")] == [[], [], []]


def test_other_shapes_are_counted_and_left_out(tmp_path: Path):
    root = cvat(tmp_path / "in", BOXES + '<points label="cat" points="1,1"/><tag label="cat"/>')
    lines = converted(root, tmp_path / "out", val_share=0.5)
    assert lines[:2] == ["not objects, left out: 2 points", "not objects, left out: 2 tag"]
    assert objects(tmp_path / "out").popitem()[1] == SCENE


def test_subsets_of_a_project_are_the_splits(tmp_path: Path):
    root = cvat(tmp_path / "in", BOXES, number=3)
    path = root / "annotations.xml"
    text = path.read_text().replace('id="2" ', 'id="2" subset="Validation" ')
    for n in "01":
        text = text.replace(f'id="{n}" ', f'id="{n}" subset="Train" ')
    path.write_text(text)
    converted(root, tmp_path / "out")
    assert sorted(objects(tmp_path / "out")) == ["0.png", "1.png"]
    assert sorted(objects(tmp_path / "out", "val")) == ["2.png"]


def test_images_may_be_elsewhere(tmp_path: Path):
    root = cvat(tmp_path / "in", BOXES)
    (root / "images").rename(tmp_path / "photos")
    given = dict(images=tmp_path / "photos", val_share=0.5)
    converted(root / "annotations.xml", tmp_path / "out", **given)
    assert objects(tmp_path / "out").popitem()[1] == SCENE


BOMB = '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<annotations>", f"{BOMB}<annotations>", "declares the document type 'lolz'"),
        (
            "<annotations>",
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations>',
            "declares the document type 'a'",
        ),
        ("</annotations>", "", "is not XML that can be read: no element found"),
        ("</meta>", '</meta><track id="0" label="cat"/>', "has tracks of a video"),
        ('label="cat"', 'label="bird"', "of a label that the file does not list"),
        ('xtl="8.0"', 'xtl="eight"', "with coordinates that are not numbers"),
        ('xtl="8.0"', 'xtl="32"', "with a side below 1 pixel"),
        ('xtl="8.0" ytl="6.0" xbr="32.0"', 'xtl="70" ytl="6" xbr="90"', "outside their image"),
        ('name="0.png"', 'name="../../secret.png"', "that are missing, or of a name that several"),
        ('name="0.png"', 'name="1.bmp"', "that are missing"),
        ('name="0.png"', 'name="1.png"', "1 that are listed twice"),
        ('width="64"', 'width="48"', "of another size than annotated"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, old: str, new: str, message: str):
    root = cvat(tmp_path / "in", BOXES)
    photo(tmp_path / "secret.png")
    path = root / "annotations.xml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        converted(root, tmp_path / "out", kind="cvat", val_share=0.5)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<polygon label="cat" points="8,8;nan,9;24,8;24,40"/>', "that are not numbers"),
        (
            '<mask label="cat" rle="1, 2" left="1e999" top="7" width="1" height="3"/>',
            "whose shape cannot be read",
        ),
    ],
)
def test_numbers_that_are_none_are_named(tmp_path: Path, shape: str, message: str):
    with pytest.raises(UserError, match=message):
        converted(cvat(tmp_path / "in", shape), tmp_path / "out")


def test_a_subset_for_tests_is_not_trained_on(tmp_path: Path):
    root = cvat(tmp_path / "in", BOXES, number=5)
    path = root / "annotations.xml"
    path.write_text(path.read_text().replace('id="0" ', 'id="0" subset="Test" '))
    converted(root, tmp_path / "out", val_share=0.5)
    assert sorted(objects(tmp_path / "out", "test")) == ["0.png"]
    assert len(objects(tmp_path / "out")) == len(objects(tmp_path / "out", "val")) == 2


@pytest.mark.parametrize("rle", ["1, 2", "-1, 9", "x", "99999999999, 1"])
def test_runs_that_do_not_fill_their_window_are_named(tmp_path: Path, rle: str):
    shape = f'<mask label="cat" rle="{rle}" left="5" top="7" width="4" height="2"/>'
    with pytest.raises(UserError, match=r"2 whose shape cannot be read \(first: a mask 'cat' on"):
        converted(cvat(tmp_path / "in", shape), tmp_path / "out")
