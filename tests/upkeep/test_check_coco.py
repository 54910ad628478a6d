"""Planted faults of a COCO folder are found, each as its own kind."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from milan_mm.datasets.coco.faults import Kind
from milan_mm.palette import DISTINCT
from milan_mm.upkeep.check_coco import check_coco, check_lvis
from milan_mm.upkeep.findings import Findings
from tests.evaluation.test_lvis_metric import HEIGHT, WIDTH, annotation_file
from tests.run.own_data.folders import write_image
from tests.small_data import edit_coco
from tests.upkeep.conftest import only

FIRST = "train2017/000000000000.jpg"


def check(root: Path, allow_subset: bool = True) -> Findings:
    findings = Findings(allow_subset)
    check_coco(root, findings, num_workers=0)
    return findings


def test_a_sound_subset_has_no_faults_and_says_how_much_is_missing(coco):
    findings = check(coco)
    assert not findings.faults
    assert findings.counts == [
        "images in instances_train2017.json: 5 of 118,287, 118,282 fewer",
        "images in instances_val2017.json: 3 of 5,000, 4,997 fewer",
    ]
    assert re.fullmatch(r"train: \d+ objects in 5 images are learnt from", findings.notes[0])
    assert re.fullmatch(r"val: \d+ objects in 3 images are evaluated", findings.notes[1])


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
        "images are not in the annotation file, so they will not be used",
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
    assert "instances_train2017.json' has no list 'annotations'" in name


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


def test_every_faulty_entry_is_named_by_its_kind(coco):
    changes = [dict(category_id=91), dict(bbox=[60, 10, 20, 20]), dict(segmentation=[])]

    def spoil(content: dict) -> None:
        for annotation, change in zip(content["annotations"], changes, strict=False):
            annotation.update(change)

    edit_coco(coco, "train", spoil)
    faults = check(coco).faults
    assert list(faults) == [Kind.UNKNOWN_CATEGORY, Kind.BOX_OUTSIDE, Kind.NO_MASK]
    assert faults[Kind.NO_MASK].names == [
        "instances_train2017.json: annotation 3 has no mask (segmentation)"
    ]


def test_an_image_with_a_faulty_entry_is_not_on_the_sheet(coco):
    edit_coco(coco, "val", lambda c: c["annotations"][0].update(segmentation=[[1, 2]]))
    cells = check_coco(coco, Findings(allow_subset=True), num_workers=0)
    assert len(cells) == 5 + 3 - 1


def test_the_sheet_shows_masks_of_polygons_and_run_lengths(coco):
    def change(content: dict) -> None:
        content["annotations"] = [
            content["annotations"][0]
            | dict(bbox=[8, 8, 32, 32], segmentation=[[8, 8, 40, 8, 40, 40, 8, 40]], image_id=0)
        ]

    edit_coco(coco, "train", change)
    cells = check_coco(coco, Findings(allow_subset=True), num_workers=0)
    assert len(cells) == 8
    assert cells[0].caption == "train 000000000000.jpg: 1 object"
    assert cells[0].picture.shape == (240, 240, 3)
    # against the image itself: the inside of the polygon is tinted, the far corner is not
    image = np.asarray(Image.open(coco / FIRST).resize((240, 240)), dtype=int)
    change_of = np.abs(cells[0].picture.astype(int) - image).sum(axis=2)
    assert change_of[100:140, 100:140].mean() > 5 * change_of[180:, 180:].mean()


def test_classes_other_than_cocos_have_the_colours_of_predictions(coco, monkeypatch):
    def keep_two(content: dict) -> None:
        content["categories"] = content["categories"][:2]
        known = {category["id"] for category in content["categories"]}
        kept = [a for a in content["annotations"] if a["category_id"] in known]
        content["annotations"] = kept

    for split in ("train", "val"):
        edit_coco(coco, split, keep_two)
    given = []
    monkeypatch.setattr(
        "milan_mm.upkeep.check_coco.draw_detections",
        lambda image, boxes, labels, names, colours, **_: given.append(colours) or image,
    )
    check_coco(coco, Findings(allow_subset=True), num_workers=0)
    assert given and all(colours == list(DISTINCT[:2]) for colours in given)


def test_lvis_is_read_by_the_urls_of_its_images_and_needs_more_than_coco(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        content = annotation_file()
        for image in content["images"]:
            image["coco_url"] = image["coco_url"].replace("val2017", f"{split}2017")
            name = "/".join(image["coco_url"].split("/")[-2:])
            write_image(tmp_path / name, size=(HEIGHT, WIDTH))
        if split == "val":
            content["images"][2]["neg_category_ids"] = "none"
        (tmp_path / f"annotations/lvis_v1_{split}.json").write_text(json.dumps(content))
    findings = Findings(allow_subset=True)
    check_lvis(tmp_path, findings, num_workers=0)
    assert findings.counts[0] == "images in lvis_v1_train.json: 6 of 100,170, 100,164 fewer"
    (name,) = only(findings, "entries do not have what AP of LVIS needs")
    assert name == "lvis_v1_val.json: image 3 has no list 'neg_category_ids'"
