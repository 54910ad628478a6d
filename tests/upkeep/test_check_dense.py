"""Cityscapes, Pascal Context, COCO-Stuff, NYU Depth: what is easily wrong is named with its cure.

What is common to all label maps: test_check_segmentation.py.
"""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.datasets.conversion import SCRIPTS, command
from milan_mm.upkeep.check_nyu import check_nyu
from milan_mm.upkeep.check_segmentation import (
    check_cityscapes,
    check_coco_stuff,
    check_pascal_context,
)
from milan_mm.upkeep.findings import Findings
from milan_mm.visualization.contact_sheet import Cell
from tests.dense_layouts import LAYOUTS, random_pairs, write_layout

CHECKS = {
    "cityscapes": check_cityscapes,
    "pascal-context": check_pascal_context,
    "coco-stuff": check_coco_stuff,
    "nyu-depth": check_nyu,
}
COUNTS = {
    "cityscapes": ("train: 2 of 2,975", "val: 2 of 500"),
    "pascal-context": ("train: 2 of 4,998", "val: 2 of 5,105"),
    "coco-stuff": ("train: 2 of 118,287", "val: 2 of 5,000"),
    "nyu-depth": ("train: 2 of 24,231", "test: 2 of 654"),
}


def written(data: str, folder: Path) -> Path:
    return write_layout(data, folder, random_pairs(data, 2))


def check(data: str, root: Path) -> tuple[Findings, list[Cell]]:
    findings = Findings(allow_subset=True)
    return findings, CHECKS[data](root, findings, 0)


def label(data: str, root: Path) -> Path:
    """That of the first pair of training."""
    return root / next(iter(LAYOUTS[data].labels.values())).format(0)


def only(data: str, root: Path) -> tuple[str, str, list[str]]:
    """The one fault that there is: its kind, the remedy, and the names."""
    (fault,) = check(data, root)[0].faults.values()
    return fault.kind, fault.remedy, fault.names


@pytest.mark.parametrize("data", CHECKS)
def test_a_sound_subset_has_no_faults(data: str, tmp_path: Path):
    findings, cells = check(data, written(data, tmp_path))
    assert not findings.faults and len(cells) == 4
    for count, wanted in zip(findings.counts, COUNTS[data], strict=True):
        assert count.startswith(f"pairs in {wanted}, ")


@pytest.mark.parametrize(
    ("data", "value", "kind"),
    [
        ("cityscapes", 33, "label maps hold values outside 0..18 and 255"),
        ("pascal-context", 200, "label maps hold values outside 0..59"),
        ("coco-stuff", 181, "label maps hold values outside 0..170 and 255"),
    ],
)
def test_unconverted_labels_come_with_their_script(
    data: str, value: int, kind: str, tmp_path: Path
):
    root = written(data, tmp_path)
    labels = np.asarray(Image.open(label(data, root))).copy()
    labels[0, 0] = value
    Image.fromarray(labels).save(label(data, root))
    found, remedy, names = only(data, root)
    assert found == kind and names == [f"{label(data, root).relative_to(root)} holds {value}"]
    assert ".mim/tools/dataset_converters/" in remedy


def test_background_as_255_is_shifted_already(tmp_path: Path):
    root = written("pascal-context", tmp_path)
    labels = np.asarray(Image.open(label("pascal-context", root)))
    shifted = np.where(labels == 0, 255, labels - 1).astype(np.uint8)
    Image.fromarray(shifted).save(label("pascal-context", root))
    assert "probably shifted by one already" in only("pascal-context", root)[0]


def test_labels_that_were_never_made_come_with_their_script(tmp_path: Path):
    root = written("cityscapes", tmp_path)
    for path in root.rglob("*_labelTrainIds.png"):
        path.rename(path.with_name(path.name.replace("labelTrainIds", "labelIds")))
    fault = check("cityscapes", root)[0].faults["images have no label map"]
    assert len(fault.names) == 4 and fault.remedy == command("cityscapes", root)


def test_a_list_of_pascal_context_that_was_never_made_comes_with_its_script(tmp_path: Path):
    root = written("pascal-context", tmp_path)
    (root / "ImageSets/SegmentationContext/val.txt").unlink()
    faults = check("pascal-context", root)[0].faults
    assert "pascal_context.py" in faults["lists of names are missing"].remedy


def test_a_script_of_mmseg_makes_labels_that_pass(tmp_path: Path):
    root = written("coco-stuff", tmp_path)
    place = label("coco-stuff", root)
    ids = np.array([0, 12, 89, 181, 255], np.uint8).repeat(64 * 96 // 5 + 1)[: 64 * 96]
    raw = place.with_name(place.name.replace("_labelTrainIds", ""))
    Image.fromarray(ids.reshape(64, 96)).save(raw)
    place.unlink()
    script = runpy.run_path(command("coco_stuff", root).split()[1])
    script["convert_to_trainID"](str(raw), str(root / "annotations"), is_train=True)
    assert not check("coco-stuff", root)[0].faults
    assert sorted(np.unique(np.asarray(Image.open(place)))) == [0, 11, 79, 170, 255]


@pytest.mark.parametrize("data", SCRIPTS)
def test_every_script_is_there(data: str):
    assert Path(command(data, "data").split()[1]).is_file()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda depth: depth // 10, "depths are no depths of rooms in metres"),
        (lambda depth: depth * 0, "depth maps have no depth"),
        (lambda depth: (depth // 40).astype(np.uint8), "depth maps cannot be read"),
        (lambda depth: depth * 10, "depth maps cannot be read"),
        (lambda depth: depth[:32], "depth maps have another size than their image"),
    ],
)
def test_depths_that_are_none_are_named(change, kind: str, tmp_path: Path):
    root = written("nyu-depth", tmp_path)
    for path in (root / "annotations/train").iterdir():
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    found, remedy, names = only("nyu-depth", root)
    assert found == kind and names and "nyu.py" in remedy


def test_the_sheet_shows_depths_beside_images(tmp_path: Path):
    cells = check("nyu-depth", written("nyu-depth", tmp_path))[1]
    assert cells[0].caption == "kitchen_0000: 0.8 to 6.2 m"
    height, width = cells[0].picture.shape[:2]
    assert width == pytest.approx(2 * height * 96 / 64, rel=0.05)
