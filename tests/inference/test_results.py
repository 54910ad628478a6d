"""Results are what other programs expect to read, and whole."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from PIL import Image
from pycocotools.coco import COCO
from timm.data import ImageNetInfo

from milan_mm.inference.classes import Classes
from milan_mm.inference.pictures import Picture, name_pictures
from milan_mm.inference.predicting import Detections, Prediction
from milan_mm.inference.restoring import restore
from milan_mm.inference.results import writing
from tests.inference.saved import CLS, SEG, save_recipe

IMAGE = np.full((40, 60, 3), 90, np.uint8)
MASKS = np.zeros((2, 40, 60), bool)
MASKS[0, 5:15, 10:30] = MASKS[1, 20:30, 0:10] = True
OBJECTS = Detections(
    boxes=np.array([[10, 5, 30, 15], [0, 20, 10, 30]], np.float32),
    labels=np.array([1, 0]),
    scores=np.array([0.9, 0.2], np.float32),
    masks=MASKS,
)


def write(folder: Path, task: str, classes: Classes, *found: object, image=IMAGE) -> list[Picture]:
    """Predictions on files of a few names."""
    paths = [f"photos/{name}.png" for name in ("a/x", "b/x", "b/y")]
    pictures = name_pictures(paths[: len(found)])
    with writing(folder, task, classes, 0.3) as results:
        for picture, one in zip(pictures, found, strict=True):
            results.add(Prediction(picture, IMAGE.shape[:2], image, one))
    return pictures


def rows(folder: Path) -> list[dict]:
    """Of the table."""
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_pycocotools_reads_the_detections_with_their_masks(tmp_path: Path):
    classes = Classes.named("det", ["cat", "dog"], [], first=1)
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0), MASKS[:0])
    write(tmp_path, "det", classes, OBJECTS, empty)
    found = COCO(tmp_path / "images.json").loadRes(str(tmp_path / "predictions.json"))
    assert len(found.imgs) == 2 and len(found.anns) == 2  # also the one below the threshold
    first = found.anns[1]
    assert first["bbox"] == [10, 5, 20, 10] and first["score"] == pytest.approx(0.9)
    assert found.cats[first["category_id"]]["name"] == "dog"
    np.testing.assert_array_equal(found.annToMask(first), MASKS[0])


def test_the_table_has_the_objects_that_are_drawn(tmp_path: Path):
    classes = Classes.named("det", ["cat", "dog"], [], first=1)
    write(tmp_path, "det", classes, OBJECTS)
    (row,) = rows(tmp_path)
    assert (row["file"], row["class"], row["score"]) == ("x.png", "dog", "0.9")
    assert [float(row[name]) for name in ("x", "y", "width", "height")] == [10, 5, 20, 10]
    drawn = np.asarray(Image.open(tmp_path / "pictures/x.jpg")).astype(int)
    zoom = drawn.shape[0] // 40
    assert abs(drawn[25 * zoom, 5 * zoom] - 90).max() < 12  # inside of the other one


def test_classes_of_coco_have_its_category_ids():
    names = list(CocoDataset.METAINFO["classes"])
    ids = Classes.named("det", names, [], first=1).ids
    assert (ids[0], ids[11], ids[79]) == (1, 13, 90)  # person, stop sign, toothbrush
    assert Classes.named("det", names[:79], [], first=1).ids == list(range(1, 80))


@pytest.mark.parametrize("first", [0, 1])
def test_label_maps_hold_the_values_of_the_trainings_label_files(tmp_path: Path, first: int):
    _, path, _ = save_recipe(
        SEG, tmp_path, classes=("a", "b", "c", "d", "e"), reduce_zero_label=bool(first)
    )
    classes = Classes.of(restore(path, device="cpu"))
    labels = np.zeros((40, 60), int)
    labels[:, :30] = 4
    write(tmp_path / "out", "seg", classes, labels, labels.T.reshape(40, 60))
    found = np.asarray(Image.open(tmp_path / "out/labels/a/x.png"))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels + first)
    listed = json.loads((tmp_path / "out/images.json").read_text())["categories"]
    assert {entry["id"]: entry["name"] for entry in listed}[4 + first] == "e"
    table = rows(tmp_path / "out")
    assert [row["label"] for row in table[:2]] == [str(first), str(4 + first)]
    assert sum(float(row["share"]) for row in table[:2]) == 1


def test_the_likeliest_labels_are_in_the_table_and_in_the_json_file(tmp_path: Path):
    classes = Classes.named("cls", ["cat", "dog", "n01440764"], [])
    write(tmp_path, "cls", classes, np.array([0.1, 0.3, 0.6], np.float32))
    (row,) = rows(tmp_path)
    assert [row[f"class_{i}"] for i in (1, 2, 3)] == ["tench", "dog", "cat"]
    assert (row["label_1"], row["probability_1"]) == ("2", "0.6")
    (entry,) = json.loads((tmp_path / "predictions.json").read_text())
    assert entry["labels"] == [2, 1, 0] and entry["scores"] == pytest.approx([0.6, 0.3, 0.1])


def test_without_names_classes_are_numbered_and_imagenets_are_known(tmp_path: Path):
    _, path, _ = save_recipe(CLS, tmp_path)
    found = Classes.of(restore(path, device="cpu"))
    assert found.names[:2] == ["class 0", "class 1"] and len(found.names) == 8
    assert "has no class names" in found.notes[0]
    names = ImageNetInfo("imagenet-1k").label_names()
    assert Classes.named("cls", names, []).names[:2] == ["tench", "goldfish"]


def test_same_names_in_two_folders_make_two_files(tmp_path: Path):
    classes = Classes.named("cls", ["cat", "dog"], [])
    write(tmp_path, "cls", classes, *np.eye(2, dtype=np.float32))
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.jpg")) == [
        "pictures/a/x.jpg",
        "pictures/b/x.jpg",
    ]


def test_a_run_that_fails_leaves_no_half_tables_and_no_other_files(tmp_path: Path):
    classes = Classes.named("cls", ["cat", "dog"], [])
    with pytest.raises(TypeError):
        write(tmp_path, "cls", classes, np.ones(2), None, image=None)
    assert not list(tmp_path.iterdir())
