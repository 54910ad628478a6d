"""Planted faults of a COCO folder are found, each as its own kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.upkeep.check_coco import check_coco
from milan_mm.upkeep.findings import Findings
from tests.small_data import edit_coco

FIRST = "train2017/000000000000.jpg"


def check(root: Path, allow_subset: bool = True) -> Findings:
    findings = Findings(allow_subset)
    check_coco(root, findings, num_workers=0)
    return findings


def only(findings: Findings, kind: str) -> list[str]:
    """The names of the one kind of fault that there is."""
    assert list(findings.faults) == [kind]
    return findings.faults[kind].names


def test_a_sound_subset_has_no_faults_and_says_how_much_is_missing(coco):
    findings = check(coco)
    assert not findings.faults
    assert findings.counts == [
        "images in instances_train2017.json: 5 of 118,287, 118,282 fewer",
        "images in instances_val2017.json: 3 of 5,000, 4,997 fewer",
    ]
    assert any(
        note.startswith("train: ") and "objects, 0 of them" in note for note in findings.notes
    )


def test_a_subset_is_faulty_unless_it_is_allowed(coco):
    assert len(only(check(coco, allow_subset=False), "counts are too low")) == 2


def test_every_image_is_decoded_to_its_end(coco):
    content = (coco / FIRST).read_bytes()
    (coco / FIRST).write_bytes(content[: len(content) // 2])
    (name,) = only(check(coco), "images cannot be read")
    assert name.startswith(f"{FIRST}: ")


def test_images_and_annotation_file_must_agree(coco):
    (coco / FIRST).rename(coco / "train2017/stranger.jpg")
    faults = check(coco).faults
    assert list(faults) == [
        "images of the annotation file are not in its folder",
        "images are not in the annotation file, so nobody will see them",
    ]
    assert [fault.names for fault in faults.values()] == [[FIRST], ["train2017/stranger.jpg"]]


def test_an_image_of_another_size_is_named(coco):
    Image.new("RGB", (50, 40)).save(coco / FIRST)
    names = only(check(coco), "images have another size than the annotation file says")
    assert names == [f"{FIRST} has 50x40 pixels, not 64x64"]


def test_missing_annotation_files_and_files_of_another_format_are_named(coco):
    (coco / "annotations/instances_val2017.json").unlink()
    (coco / "annotations/instances_train2017.json").write_text('{"images": []}')
    faults = check(coco).faults
    assert faults["annotation files are missing"].names[0].endswith("instances_val2017.json")
    (name,) = faults["annotation files are not in COCO's format"].names
    assert name.endswith("instances_train2017.json: KeyError: 'annotations'")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda content: content.update(annotations=None), "TypeError: 'NoneType' object"),
        (lambda content: content.update(images=["a.jpg"]), "TypeError: string indices"),
        (lambda content: content["categories"].append(7), "TypeError: 'int' object"),
    ],
)
def test_files_whose_parts_are_no_lists_of_objects_are_named(coco, change, detail):
    edit_coco(coco, "train", change)
    (name,) = check(coco).faults["annotation files are not in COCO's format"].names
    assert f"instances_train2017.json: {detail}" in name


def test_an_annotation_that_is_no_object_is_named(coco):
    edit_coco(coco, "train", lambda content: content["annotations"].append(7))
    (name,) = only(check(coco), "annotations are incomplete")
    assert name.startswith("instances_train2017.json: annotation number ")
    assert name.endswith(" is 7")


def test_categories_in_another_order_are_named(coco):
    edit_coco(coco, "train", lambda content: content["categories"].reverse())
    names = only(check(coco), "categories are not COCO's")
    assert names[0] == "instances_train2017.json: category 1 is 'toothbrush', not 'person'"


def test_fewer_categories_are_counted(coco):
    edit_coco(coco, "val", lambda content: content["categories"].pop())
    names = only(check(coco), "categories are not COCO's")
    assert names == ["instances_val2017.json: 79 categories, not 80"]


def test_an_image_of_both_splits_is_named(coco):
    def change(content: dict) -> None:
        content["images"][0]["file_name"] = Path(FIRST).name

    edit_coco(coco, "val", change)
    (coco / "val2017/900000000000.jpg").rename(coco / "val2017" / Path(FIRST).name)
    assert only(check(coco), "images are in both splits") == [Path(FIRST).name]


@pytest.mark.parametrize(
    ("change", "kind", "name"),
    [
        (
            dict(category_id=91),
            "annotations have a category that the file does not list",
            "annotation 1 has category 91",
        ),
        (
            dict(image_id=77),
            "annotations have an image that the file does not list",
            "annotation 1 has image 77",
        ),
        (
            dict(bbox=[60, 10, 20, 20]),
            "boxes are not inside their image",
            "annotation 1 has [x, y, width, height] [60, 10, 20, 20] on 64x64",
        ),
        (
            dict(bbox=[1, 2, 3]),
            "boxes are not inside their image",
            "annotation 1 has [x, y, width, height] [1, 2, 3] on 64x64",
        ),
        (
            dict(bbox=["1", "2", "3", "4"]),
            "boxes are not inside their image",
            "annotation 1 has [x, y, width, height] ['1', '2', '3', '4'] on 64x64",
        ),
        (
            dict(segmentation=dict(size=[64, 64], counts=[5, 3])),
            "masks do not fit their image",
            "annotation 1 has a mask whose counts do not add up to 4096 pixels",
        ),
        (
            dict(segmentation=[["1", "2", "3", "4", "5", "6"]]),
            "masks do not fit their image",
            "annotation 1 has a polygon that is no list of three or more points",
        ),
        (
            dict(segmentation=dict(size=[10, 20], counts="x")),
            "masks do not fit their image",
            "annotation 1 has a mask of (height, width) [10, 20] on an image of [64, 64]",
        ),
        (
            dict(segmentation=[[1, 2, 3, 4]]),
            "masks do not fit their image",
            "annotation 1 has a polygon that is no list of three or more points",
        ),
        (dict(segmentation=[]), "masks do not fit their image", "annotation 1 has no mask"),
        (dict(area=None), "annotations are incomplete", "annotation 1 has no ['area']"),
        (dict(image_id=[1]), "annotations are incomplete", "annotation 1 has no ['image_id']"),
        (dict(id=2), "annotations share an id", "annotation 2"),
    ],
)
def test_a_faulty_annotation_is_named(coco, change, kind, name):
    edit_coco(coco, "train", lambda content: content["annotations"][0].update(change))
    assert only(check(coco), kind) == [f"instances_train2017.json: {name}"]


def test_the_sheet_shows_masks_of_polygons_and_run_lengths(coco):
    def change(content: dict) -> None:
        content["annotations"] = [
            content["annotations"][0]
            | dict(bbox=[8, 8, 32, 32], segmentation=[[8, 8, 40, 8, 40, 40, 8, 40]], image_id=0)
        ]

    edit_coco(coco, "train", change)
    cells = check_coco(coco, Findings(allow_subset=True), num_workers=0)
    assert len(cells) == 8
    assert cells[0].caption == "train 000000000000.jpg: 1 objects"
    assert cells[0].picture.shape == (240, 240, 3)
    # against the image itself: the inside of the polygon is tinted, the far corner is not
    image = np.asarray(Image.open(coco / FIRST).resize((240, 240)), dtype=int)
    change_of = np.abs(cells[0].picture.astype(int) - image).sum(axis=2)
    assert change_of[100:140, 100:140].mean() > 5 * change_of[180:, 180:].mean()
