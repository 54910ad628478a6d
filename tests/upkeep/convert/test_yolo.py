"""Ultralytics YOLO: directory styles, boxes and outlines, and what cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from labelformat.formats import YOLOv8ObjectDetectionInput
from pycocotools import mask as coco_mask

from milan_mm.errors import UserError
from milan_mm.upkeep.convert.samples import Dropped
from milan_mm.upkeep.convert.yolo import _read_labels
from tests.upkeep.convert.folders import (
    BOXES,
    CLASSES,
    HEIGHT,
    SCENE,
    WIDTH,
    annotations,
    converted,
    objects,
    photo,
    yolo,
    yolo_line,
)


@pytest.mark.parametrize("style", ["images/{}", "{}/images", "data/images/{}"])
@pytest.mark.parametrize("names", [CLASSES, list(CLASSES), {"1": "dog", "0": "cat"}])
def test_styles_of_folders_and_names_give_the_same_objects(tmp_path: Path, style, names):
    converted(yolo(tmp_path / "in", names, style=style), tmp_path / "out")
    for split in ("train", "val"):
        found = objects(tmp_path / "out", split)
        assert sorted(found) == ["0.jpg", "1.jpg", "2.jpg"]
        assert all(things == SCENE for things in found.values())


def test_boxes_are_those_that_labelformat_reads(tmp_path: Path):
    root = yolo(tmp_path / "in", list(CLASSES))
    converted(root, tmp_path / "out")
    judge = YOLOv8ObjectDetectionInput(root / "data.yaml", "train")
    found = objects(tmp_path / "out")
    for label in judge.get_labels():
        own = found[label.image.filename]
        assert [thing.category.name for thing in label.objects] == [name for name, _ in own]
        for thing, (_, (x, y, w, h)) in zip(label.objects, own, strict=True):
            box = thing.box
            corners = (box.xmin, box.ymin, box.xmax, box.ymax)
            assert corners == pytest.approx((x, y, x + w, y + h), abs=1e-3)


def test_a_line_of_ultralytics_coco128_gives_the_box_of_coco():
    """Image 9 of COCO, 640x480: its first line there, and the bbox in COCO's own file."""
    path = Path("000000000009.txt")
    line = "45 0.479492 0.688771 0.955609 0.5955"
    (thing,) = _read_of(line, path, (640, 480))
    assert thing.label == 45
    assert thing.box == pytest.approx((1.08, 187.69, 611.59, 285.84), abs=1e-2)


def _read_of(text: str, path: Path, size: tuple[int, int], dropped: Dropped | None = None):
    class Given(type(path)):  # type: ignore[misc]
        def is_file(self) -> bool:
            return True

        def read_text(self, *_: object) -> str:
            return text

    return list(_read_labels(Given(path), size, 80, dropped or Dropped()))


@pytest.mark.parametrize(
    "changes",
    [
        dict(path="/datasets/mine", train="images/train", val="images/val"),  # another machine's
        dict(path="../datasets/in", train="images/train", val="images/val"),
        dict(train="../images/train", val="../images/val"),  # as Roboflow has it
        dict(train=["images/train"], val="images/val", test="images/gone"),
        dict(train="train.txt", val="images/val"),
    ],
)
def test_paths_of_data_yaml_are_found_inside_the_folder(tmp_path: Path, changes):
    root = yolo(tmp_path / "in")
    (root / "train.txt").write_text("".join(f"./images/train/{n}.jpg\n" for n in range(3)))
    (root / "data.yaml").write_text(repr(changes | dict(names=list(CLASSES))))
    converted(root, tmp_path / "out")
    assert len(objects(tmp_path / "out")) == len(objects(tmp_path / "out", "val")) == 3


def test_an_image_without_a_label_file_is_background(tmp_path: Path):
    root = yolo(tmp_path / "in")
    (root / "labels/train/1.txt").unlink()
    (root / "labels/train/2.txt").write_text("\n")
    lines = converted(root, tmp_path / "out")
    found = objects(tmp_path / "out")
    assert [len(found[f"{n}.jpg"]) for n in range(3)] == [2, 0, 0]
    assert "train: 3 images, 2 objects, 2 images without objects" in lines


def test_outlines_become_masks_and_boxes_around_them(tmp_path: Path):
    root = yolo(tmp_path / "in")
    for path in root.glob("labels/*/*.txt"):
        path.write_text("1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n")
    converted(root, tmp_path / "out")
    for annotation in annotations(tmp_path / "out"):
        assert annotation["bbox"] == [WIDTH / 4, HEIGHT / 4, WIDTH / 2, HEIGHT / 2]
        runs = coco_mask.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[HEIGHT // 4 : 3 * HEIGHT // 4, WIDTH // 4 : 3 * WIDTH // 4] = True
        assert (coco_mask.decode(runs)[..., 0] == mask).all()
        assert annotation["area"] == mask.sum()


def test_labels_are_shares_of_the_photo_as_shown(tmp_path: Path):
    """Ultralytics exchanges the sides where EXIF says 6 or 8, and reads the pixels turned."""
    root = yolo(tmp_path / "in")
    photo(root / "images/train/0.jpg", 0, orientation=6)
    (root / "labels/train/0.txt").write_text("0 0.5 0.5 1 1\n")
    converted(root, tmp_path / "out")
    assert objects(tmp_path / "out")["0.jpg"] == [("cat", (0, 0, HEIGHT, WIDTH))]


def test_the_same_folder_for_both_splits_is_split_anew(tmp_path: Path):
    root = yolo(tmp_path / "in", number=5)
    content = dict(train="images/train", val="images/train", names=list(CLASSES))
    (root / "data.yaml").write_text(repr(content))
    lines = converted(root, tmp_path / "out")
    assert "is the same as train: the images are split anew" in lines[0]
    train, val = objects(tmp_path / "out"), objects(tmp_path / "out", "val")
    assert (len(train), len(val)) == (4, 1) and not {*train} & {*val}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.1 0.1", "of a class that is none of 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "of a class that is none of 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "of a class that is none of 0 to 1"),
        ("0 320 240 64 48", "with coordinates that are not shares of the image, 0 to 1"),
        ("0 nan 0.5 0.1 0.1", "with coordinates that are not shares of the image, 0 to 1"),
        ("0 0.5 0.5 0.1 0.1 0.9", "of neither 4 numbers (a box) nor 3 or more points"),
        ("cat 0.5 0.5 0.1 0.1", "that are not lines of numbers"),
        ("0 0.5 0.5 0.001 0.1", "with a side below 1 pixel"),
    ],
)
def test_a_faulty_line_is_refused_with_its_file_or_left_out_on_request(
    tmp_path: Path, line: str, reason: str
):
    root = yolo(tmp_path / "in")
    label = root / "labels/train/1.txt"
    label.write_text(label.read_text() + line + "\n")
    with pytest.raises(UserError) as refused:
        converted(root, tmp_path / "out")
    message = f"1 of 13 objects would be dropped: 1 {reason} (first: line 3 of '{label}')"
    assert message in str(refused.value) and "pass --max-dropped 0.077" in str(refused.value)
    assert not (tmp_path / "out").exists()
    lines = converted(root, tmp_path / "out", max_dropped=0.077)
    assert f"dropped objects: 1 {reason} (first: line 3 of '{label}')" in lines
    assert all(things == SCENE for things in objects(tmp_path / "out").values())


def test_a_box_that_reaches_over_the_edge_is_cut_off(tmp_path: Path):
    root = yolo(tmp_path / "in")
    (root / "labels/train/0.txt").write_text("0 0.0 0.5 0.5 1.005\n")
    converted(root, tmp_path / "out")
    assert objects(tmp_path / "out")["0.jpg"] == [("cat", (0, 0, WIDTH / 4, HEIGHT))]


def _rename(root: Path) -> None:
    (root / "images/train/0.jpg").rename(root / "gone.bin")


def _twin(root: Path) -> None:
    photo(root / "images/train/0.png", 99)


def _damage(root: Path) -> None:
    (root / "images/train/0.jpg").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_rename, "that are missing, though they have a label file"),
        (_twin, "that share a label file with another image"),
        (_damage, "that cannot be read"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_named(tmp_path: Path, spoil, reason: str):
    root = yolo(tmp_path / "in")
    spoil(root)
    with pytest.raises(UserError, match=r"1 of \d images would be dropped: 1 ") as refused:
        converted(root, tmp_path / "out")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", ""], "class 1 of '.*' has an empty name: give it a name"),
        (["cat", "cat"], "names the class 'cat' twice"),
        ({"0": "cat", "2": "dog"}, "number the classes from 0 to 1"),
        ([["a"], "b"], "class 0 of '.*' has a list for a name"),
        ("cat", "list the names of the classes"),
    ],
)
def test_names_of_classes_must_be_names(tmp_path: Path, names, message: str):
    root = yolo(tmp_path / "in", names)
    with pytest.raises(UserError, match=message):
        converted(root, tmp_path / "out")


def test_a_class_may_be_called_like_a_value_of_yaml(tmp_path: Path):
    root = yolo(tmp_path / "in")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [no, 1.10]\n")
    converted(root, tmp_path / "out")
    assert [name for name, _ in objects(tmp_path / "out")["0.jpg"]] == ["no", "1.10"]


def test_without_data_yaml_classes_txt_names_the_classes(tmp_path: Path):
    """As Label Studio exports it."""
    root = yolo(tmp_path / "in", number=4)
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    for kind, ending in (("images", "jpg"), ("labels", "txt")):
        for path in sorted((root / kind).rglob(f"*.{ending}")):
            path.rename(root / kind / f"{path.parent.name[0]}{path.name}")
    converted(root, tmp_path / "out", val_share=0.25)
    found = objects(tmp_path / "out") | objects(tmp_path / "out", "val")
    assert len(found) == 8 and all(things == SCENE for things in found.values())


def test_without_data_yaml_folders_name_the_splits(tmp_path: Path):
    root = yolo(tmp_path / "in")
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    converted(root, tmp_path / "out")
    for split in ("train", "val"):
        assert objects(tmp_path / "out", split) == {f"{n}.jpg": SCENE for n in range(3)}


def test_images_of_no_split_join_training(tmp_path: Path):
    root = yolo(tmp_path / "in", style="{}/images")
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    photo(root / "more/images/9.jpg", 9)
    lines = converted(root, tmp_path / "out")
    assert "1 image of no split: taken for training" in lines
    assert (len(objects(tmp_path / "out")), len(objects(tmp_path / "out", "val"))) == (4, 3)


def test_a_folder_above_that_is_called_labels_holds_none(tmp_path: Path):
    root = yolo(tmp_path / "labels/in")
    (root / "papers").mkdir()
    (root / "papers/about.txt").write_text("of cats")
    converted(root, tmp_path / "out")
    assert len(objects(tmp_path / "out")) == 3


def test_names_in_another_encoding_are_one_line(tmp_path: Path):
    root = yolo(tmp_path / "in")
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_bytes("Käfer\ndog\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes\.txt' is not UTF-8 text: .*; save it as UTF-8"):
        converted(root, tmp_path / "out")


def test_labels_of_darknet_are_beside_the_images(tmp_path: Path):
    """CVAT's "YOLO 1.1"."""
    root = tmp_path / "in"
    for n in range(4):
        photo(root / f"obj_train_data/{n}.png", n)
        text = "".join(yolo_line(*pair) for pair in enumerate(BOXES))
        (root / f"obj_train_data/{n}.txt").write_text(text)
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "train.txt").write_text("data/obj_train_data/0.png\n")
    converted(root, tmp_path / "out", val_share=0.25)
    found = objects(tmp_path / "out") | objects(tmp_path / "out", "val")
    assert len(found) == 4 and all(things == SCENE for things in found.values())


def test_labels_outside_of_the_folder_are_not_read(tmp_path: Path):
    root = yolo(tmp_path / "in")
    photo(tmp_path / "secret/images/0.jpg")
    content = dict(train=str(tmp_path / "secret/images"), val="images/val", names=["cat", "dog"])
    (root / "data.yaml").write_text(repr(content))
    with pytest.raises(UserError, match=r"which is not inside|no image of the train split"):
        converted(root, tmp_path / "out")


def test_points_of_poses_are_no_outlines(tmp_path: Path):
    root = yolo(tmp_path / "in")
    for path in root.glob("labels/*/*.txt"):
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{line} 0.1 0.2 0.3 0.4\n" for line in lines))
    (root / "data.yaml").write_text(
        repr(dict(train="images/train", val="images/val", names=list(CLASSES), kpt_shape=[2, 2]))
    )
    lines = converted(root, tmp_path / "out")
    assert "the points of poses are left out, boxes kept" in lines
    assert all(things == SCENE for things in objects(tmp_path / "out").values())
