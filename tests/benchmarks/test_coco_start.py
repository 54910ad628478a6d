"""The benchmark of a start on COCO: a file of the wanted size, and equal work on both sides."""

import json
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset

from benchmarks.coco_start import ROLES, start, table, write_full_size
from tests.run.own_data.folders import coco_folder

CLASSES = CocoDataset.METAINFO["classes"]


@pytest.fixture
def full_size(tmp_path: Path) -> Path:
    """Seven images that repeat two, with 20 of their 3 objects each."""
    source = coco_folder(tmp_path / "source")
    for path in (source / "annotations").iterdir():
        content = json.loads(path.read_text())
        content["categories"] = [dict(id=10 * i, name=name) for i, name in enumerate(CLASSES, 1)]
        path.write_text(json.dumps(content))
    return write_full_size(source, tmp_path / "coco", num_images=7, num_annotations=20)


def test_images_and_annotations_are_repeated_under_new_ids(full_size):
    content = json.loads(full_size.read_text())
    assert [image["id"] for image in content["images"]] == list(range(7))
    assert [entry["id"] for entry in content["annotations"]] == list(range(20))
    assert [entry["image_id"] for entry in content["annotations"][:7]] == [0, 0, 0, 1, 1, 1, 2]
    folder = full_size.parents[1] / "train2017"
    first, third = (folder / content["images"][i]["file_name"] for i in (0, 2))
    assert first.samefile(third) and len(list(folder.iterdir())) == 7


@pytest.mark.parametrize("role", ROLES)
def test_every_role_ends_with_the_same_data_set(full_size, role):
    result = start(role, full_size.parents[1])
    assert result["images"] == 7
    assert result["seconds"] > 0 and result["peak"] > 0.1


def test_the_table_has_best_times_highest_peaks_and_ratios():
    runs = [dict(seconds=2.0, peak=1.0), dict(seconds=4.0, peak=2.0)]
    lines = table({"mmdet": runs, "recipe": [dict(seconds=3.0, peak=2.2)]}).splitlines()
    assert lines[2:] == [
        "| mmdet | 2.0 | 1.00 | 2.00 | 1.00 |",
        "| recipe | 3.0 | 1.50 | 2.20 | 1.10 |",
    ]
