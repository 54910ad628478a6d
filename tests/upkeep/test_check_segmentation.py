"""Planted faults of an ADE20K folder are found, each as its own kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.upkeep.check_segmentation import check_ade20k
from milan_mm.upkeep.findings import Findings
from tests.upkeep.conftest import only

IMAGE = "images/training/ADE_train_00000000.jpg"
LABEL = "annotations/training/ADE_train_00000000.png"


def check(root: Path, allow_subset: bool = True) -> Findings:
    findings = Findings(allow_subset)
    check_ade20k(root, findings, num_workers=0)
    return findings


def write_labels(root: Path, labels: np.ndarray) -> None:
    Image.fromarray(labels).save(root / LABEL)


def read_labels(root: Path) -> np.ndarray:
    return np.asarray(Image.open(root / LABEL)).copy()


def test_a_sound_subset_has_no_faults_and_says_how_much_is_missing(ade20k):
    findings = check(ade20k)
    assert not findings.faults
    assert findings.counts == [
        "pairs in training: 5 of 20,210, 20,205 fewer",
        "pairs in validation: 3 of 2,000, 1,997 fewer",
    ]


def test_the_share_of_pixels_without_a_class_is_a_remark(ade20k):
    stored = [np.asarray(Image.open(p)) for p in (ade20k / "annotations/training").iterdir()]
    share = np.mean([labels == 0 for labels in stored])
    assert f"training: {share:.1%} of the pixels have no class (0)" in check(ade20k).notes


def test_a_subset_is_faulty_unless_it_is_allowed(ade20k):
    faults = check(ade20k, allow_subset=False).faults
    assert len(faults["counts are too low"].names) == 2
    absent = faults["classes occur in no label map of training"].names
    assert len(absent) == 145 and "tree (5)" not in absent
    assert absent[-1] == "flag (150)" and "bed (8)" in absent  # mmseg writes "bed "


def test_classes_that_a_subset_lacks_are_a_remark(ade20k):
    # the scenes hold the labels 0 to 5: wall, building, sky, floor and tree
    note = "training: 145 of 150 classes do not occur, the first is 'ceiling (6)'"
    assert note in check(ade20k).notes


def test_images_and_labels_are_decoded_to_their_end(ade20k):
    for name in (IMAGE, LABEL):
        content = (ade20k / name).read_bytes()
        (ade20k / name).write_bytes(content[: len(content) // 2])
    faults = check(ade20k).faults
    assert list(faults) == ["images cannot be read", "label maps cannot be read"]
    assert faults["images cannot be read"].names[0].startswith(f"{IMAGE}: ")
    assert LABEL in faults["label maps cannot be read"].names[0]


@pytest.mark.parametrize(
    ("gone", "kind", "left"),
    [
        (LABEL, "images have no label map", IMAGE),
        (IMAGE, "label maps have no image", LABEL),
    ],
)
def test_a_file_without_partner_is_named(ade20k, gone, kind, left):
    (ade20k / gone).unlink()
    assert only(check(ade20k), kind) == [left]


def test_labels_of_another_size_are_named(ade20k):
    write_labels(ade20k, read_labels(ade20k)[:50])
    names = only(check(ade20k), "label maps have another size than their image")
    assert names == [f"{LABEL} has 64x50 pixels, its image 64x64"]


def test_values_above_150_are_named(ade20k):
    labels = read_labels(ade20k)
    labels[0, :2] = 150, 151
    write_labels(ade20k, labels)
    assert only(check(ade20k), "label maps hold values outside 0..150") == [f"{LABEL} holds 151"]


def test_values_of_16_bits_are_named(ade20k):
    labels = read_labels(ade20k).astype(np.uint16)
    labels[0, 0] = 3000
    write_labels(ade20k, labels)
    assert only(check(ade20k), "label maps hold values outside 0..150") == [f"{LABEL} holds 3000"]


def test_labels_that_are_shifted_already_are_named(ade20k):
    labels = read_labels(ade20k)
    write_labels(ade20k, np.where(labels == 0, 255, labels - 1).astype(np.uint8))
    kind = "label maps hold 255, so their labels are probably shifted by one already"
    assert only(check(ade20k), kind) == [LABEL]


def test_coloured_labels_are_named(ade20k):
    Image.new("RGB", (64, 64)).save(ade20k / LABEL)
    assert "3 channels" in only(check(ade20k), "label maps cannot be read")[0]


def test_a_missing_folder_is_named(ade20k):
    (ade20k / "images/validation").rename(ade20k / "images/val")
    faults = check(ade20k).faults
    assert faults["folders are missing"].names == [str(ade20k / "images/validation")]


def test_images_that_mmseg_does_not_look_for_are_named(ade20k):
    (ade20k / IMAGE).rename((ade20k / IMAGE).with_suffix(".JPG"))
    kind = "images are not .jpg files, and mmseg looks for no others"
    assert check(ade20k).faults[kind].names == [IMAGE.replace(".jpg", ".JPG")]


def test_the_sheet_lays_class_colours_over_images_and_names_classes(ade20k):
    write_labels(ade20k, np.full((64, 64), 3, np.uint8))
    cells = check_ade20k(ade20k, Findings(allow_subset=True), num_workers=0)
    assert len(cells) == 8
    assert cells[0].caption == "ADE_train_00000000: sky"
    image = np.asarray(Image.open(ade20k / IMAGE).resize((240, 240)), dtype=float)
    sky = np.array([6, 230, 230])
    before = np.abs(image - sky).sum(axis=2).mean()
    assert np.abs(cells[0].picture - sky).sum(axis=2).mean() < 0.7 * before
