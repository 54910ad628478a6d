"""COCO annotations that do not fit are named before anything is built."""

import copy
import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from milan_mm.configs import list_configs, load
from milan_mm.run.checks.coco import check_coco
from tests.datasets.coco.test_file import CONTENT, mask

TRAIN, VAL = ("train_dataloader",), ("val_dataloader",)
EMPTY = "1 of 3 images have no objects and are kept"


@pytest.fixture
def content() -> dict:
    return copy.deepcopy(CONTENT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for image in CONTENT["images"]:
        Image.new("RGB", (32, 24)).save(tmp_path / image["file_name"])
    return tmp_path


def config(folder: Path, content: object, **dataset) -> Config:
    """A detector of two classes on a folder with this annotation file, behind a wrapper."""
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    fields = dict(
        type="CocoDataset",
        data_root=str(folder),
        ann_file="instances.json",
        data_prefix=dict(img=""),
        metainfo=dict(classes=("cat", "dog")),
        pipeline=[dict(type="LoadAnnotations", with_mask=True)],
    )
    head = dict(num_classes=2)
    loader = dict(dataset=dict(type="RepeatDataset", dataset=fields | dataset))
    return Config(
        dict(
            model=dict(roi_head=dict(bbox_head=[head, head], mask_head=head)),
            train_dataloader=loader,
            val_dataloader=copy.deepcopy(loader),
            val_evaluator=dict(type="CocoMetric", ann_file=str(path)),
        )
    )


def others(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """What is said beside the number of objects, without the name of the file."""
    lines = [line.partition(": ")[2] for line in check_coco(cfg, loaders)]
    return [line for line in lines if not re.match(r"\d+ objects? in \d+ images? (are|is)", line)]


def test_annotations_that_fit_are_counted(folder, content):
    content["annotations"][1].update(iscrowd=1, segmentation=dict(size=[24, 32], counts=[768]))
    content["annotations"].append(content["annotations"][0] | dict(id=3, image_id=3))
    cfg = config(folder, content)
    (line,) = check_coco(cfg, TRAIN)
    crowds = "1 crowd region is ignored, as the protocol asks"
    assert line == f"{folder}/instances.json: 2 objects in 2 images are learnt from; {crowds}"
    (line,) = check_coco(cfg, VAL)
    assert line == f"{folder}/instances.json: 2 objects in 2 images are evaluated; {crowds}"


@pytest.mark.parametrize("recipe", [r for r in list_configs() if r.startswith("det/")])
def test_real_data_pass(recipe, repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)
    cfg = load(recipe)
    if not Path(cfg.train_dataloader.dataset.data_root).is_dir():
        pytest.skip(f"{cfg.train_dataloader.dataset.data_root} is not there")
    lines = check_coco(cfg, TRAIN + VAL)
    assert not any("dropped" in line or "images too" in line for line in lines)
    assert "objects in" in lines[0] and lines[0].endswith("as the protocol asks") == (
        "coco" in recipe
    )


def test_other_data_sets_are_left_alone(folder):
    assert check_coco(config(folder, "no JSON", type="LVISDataset"), TRAIN + VAL) == []
    assert check_coco(config(folder, "no JSON", backend_args=dict(backend="x")), TRAIN) == []


def test_a_file_of_another_format_is_refused(folder):
    with pytest.raises(ValueError, match="has no list 'images'"):
        check_coco(config(folder, "[]"), TRAIN)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ("cat", "bird"),
            r"does not have 1 of .* 2 classes, first 'bird'; its categories are 'cat', 'dog': .*",
        ),
        (("dog", "cat"), "another order than the config, whose class 0 is 'dog', not 'cat'"),
    ],
)
def test_classes_that_are_not_the_files_are_refused(folder, content, classes, message):
    with pytest.raises(ValueError, match=message + ".*classes"):
        check_coco(config(folder, content, metainfo=dict(classes=classes)), TRAIN)


def test_classes_are_those_of_coco_unless_the_config_says_otherwise(folder, content):
    cfg = config(folder, content, metainfo=None)
    with pytest.raises(ValueError, match="78 of the config's 80 classes, first 'person'"):
        check_coco(cfg, TRAIN)


def test_classes_may_stand_in_a_file(folder, content):
    (folder / "classes.txt").write_text("cat\ndog\n")
    path = str(folder / "classes.txt")
    assert others(config(folder, content, metainfo=dict(classes=path)), TRAIN) == [EMPTY]


def test_categories_that_will_be_left_out_are_named(folder, content):
    content["categories"].insert(1, dict(id=1, name="bird"))
    note = check_coco(config(folder, content), TRAIN)[0]
    assert note.endswith("1 categories are not classes of the config: 'bird'")


def test_a_head_with_another_number_of_classes_is_refused(folder, content):
    cfg = config(folder, content)
    cfg.model.roi_head.mask_head.num_classes = 80
    message = r"model\.roi_head\.mask_head\.num_classes=80, but .* 2 classes: pass --cfg-options"
    with pytest.raises(ValueError, match=message):
        check_coco(cfg, TRAIN)
    cfg.model.roi_head.mask_head.num_classes = 2
    cfg.model.roi_head.bbox_head[1].num_classes = 3
    with pytest.raises(ValueError, match=r"bbox_head\.1\.num_classes=3"):
        check_coco(cfg, TRAIN)


def test_images_that_are_not_in_the_folder_are_named(folder, content):
    (folder / "2.jpg").unlink()
    for loaders in (TRAIN, VAL):
        with pytest.raises(ValueError, match=r"1 of the 3 images of .* not in .*, first '2\.jpg'"):
            check_coco(config(folder, content), loaders)


def test_one_percent_may_be_missing_in_training_but_not_in_an_evaluation(folder, content):
    content["images"] += [content["images"][0] | dict(id=i) for i in range(4, 101)]
    (folder / "2.jpg").unlink()
    check_coco(config(folder, content), TRAIN)
    with pytest.raises(ValueError, match="1 of the 100 images"):
        check_coco(config(folder, content), VAL)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("annotations", dict(area=None), "annotation 2 of .* has no 'area': export"),
        ("annotations", dict(bbox=[1, 2]), r"annotation 2 of .* has bbox \[1, 2\], not"),
        ("annotations", dict(segmentation=[]), "annotation 2 of .* has no mask"),
        ("annotations", mask([768], (32, 24)), r"has a mask of \(height, width\)"),
        ("annotations", dict(id=1), "annotation 1 of .* has the id of another"),
        ("images", dict(id=1), r"image '2\.jpg' of .* has the id 1 of another"),
        ("images", dict(width=0), r"image '2\.jpg' of .* has a size of 0x24"),
        ("categories", dict(name="cat"), "several categories named 'cat'"),
    ],
)
def test_what_would_end_or_spoil_training_later_is_refused(folder, content, part, change, message):
    content[part][1].update(change)
    with pytest.raises(ValueError, match=message):
        check_coco(config(folder, content), TRAIN)


def test_boxes_are_enough_for_a_detector_without_masks(folder, content):
    content["annotations"][1].pop("segmentation")
    assert others(config(folder, content, pipeline=[]), TRAIN) == [EMPTY]


def test_masks_are_needed_where_they_are_evaluated(folder, content):
    content["annotations"][1].pop("segmentation")
    cfg = config(folder, content, pipeline=[])
    check_coco(cfg, VAL)
    cfg.val_evaluator.metric = ["bbox", "segm"]
    with pytest.raises(ValueError, match=r"annotation 2 of .* has no mask"):
        check_coco(cfg, VAL)


def test_annotations_of_other_categories_may_be_anything_with_a_box(folder, content):
    first = content["annotations"][0]
    content["categories"].append(dict(id=9, name="bird"))
    content["annotations"].append(
        first | dict(id=9, category_id=9, area=0, segmentation=None, image_id=99)
    )
    (note, *_) = others(config(folder, content), TRAIN)
    assert note == "1 categories are not classes of the config: 'bird'"


def test_images_without_objects_are_said_with_the_option_that_keeps_them(folder, content):
    cfg = config(folder, content, filter_cfg=dict(filter_empty_gt=True))
    assert others(cfg, TRAIN) == [
        "1 of 3 images have no objects and are left out, as the protocol asks; --cfg-options "
        "train_dataloader.dataset.dataset.filter_cfg.filter_empty_gt=False keeps them"
    ]
    assert others(cfg, VAL) == [EMPTY]
    assert others(config(folder, content), TRAIN) == [EMPTY]


def test_what_is_wrong_without_costing_an_object_is_said(folder, content):
    first = content["annotations"][0]
    content["annotations"] += [
        first | dict(id=3, bbox=[20, 1, 15, 8]),
        first | dict(id=4, segmentation=[first["segmentation"][0], [1, 2, 3, 4]]),
    ]
    assert others(config(folder, content), TRAIN)[:2] == [
        "1 boxes reach beyond their image (first: annotation 3 has bbox [x, y, width, height] "
        "[20, 1, 15, 8] on an image of 32x24)",
        "1 masks have polygons of fewer than three points, which are left out (first: annotation 4 "
        "has 1 of 2 polygons that are not three or more points)",
    ]


def test_an_area_of_0_without_a_mask_is_said(folder, content):
    for annotation in content["annotations"]:
        annotation.update(area=0, segmentation=[])
    assert others(config(folder, content, pipeline=[]), TRAIN)[0] == (
        "2 objects without a mask have an area of 0 in the file: width x height of their box is "
        "taken"
    )


@pytest.mark.parametrize("same", [True, False])
def test_images_of_both_splits_are_said_where_their_content_is_equal(folder, content, same):
    cfg = config(folder, content)
    (folder / "val").mkdir()
    for i in (1, 2, 3):
        Image.new("RGB", (32, 24), 0 if same else (i, 9, 9)).save(folder / f"val/{i}.jpg")
    cfg.val_dataloader.dataset.dataset.data_prefix = dict(img="val")
    notes = [line for line in check_coco(cfg, TRAIN + VAL) if "training images too" in line]
    assert notes == same * [
        f"3 of 3 validation images are training images too, e.g. '{folder}/val/1.jpg' is "
        f"'{folder}/1.jpg': numbers on them say little about new images"
    ]


@pytest.mark.parametrize("use", [TRAIN, VAL])
def test_a_damaged_image_of_few_is_refused(folder, content, use):
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"1 of 3 images looked into .*, the limit is 0 of all: "):
        check_coco(config(folder, content), use)


def test_a_submission_to_the_test_server_needs_no_annotations(folder, content):
    content.pop("annotations")
    cfg = config(folder, content)
    cfg.val_evaluator.format_only = True
    assert others(cfg, VAL) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(images=CONTENT["images"][:2]), r"does not know 1 images of .*, first '3\.jpg'"),
        (dict(categories=CONTENT["categories"][::-1]), "has other categories than"),
    ],
)
def test_an_evaluator_with_a_file_of_its_own_must_know_the_images(folder, content, change, message):
    cfg = config(folder, content)
    (folder / "other.json").write_text(json.dumps(content | change))
    cfg.val_evaluator.ann_file = str(folder / "other.json")
    with pytest.raises(ValueError, match=message):
        check_coco(cfg, VAL)
