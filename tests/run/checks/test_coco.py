"""COCO annotations that do not fit are named before anything is built."""

import copy
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from milan_mm.configs import list_configs, load
from milan_mm.run.checks.coco import check_coco
from tests.datasets.test_coco_file import CONTENT, mask

TRAIN, VAL = ("train_dataloader",), ("val_dataloader",)


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


def test_annotations_that_fit_pass_without_a_remark(folder, content):
    content["annotations"][1].update(iscrowd=1, segmentation=dict(size=[24, 32], counts=[768]))
    assert check_coco(config(folder, content), TRAIN + VAL) == []


@pytest.mark.parametrize("recipe", [r for r in list_configs() if r.startswith("det/")])
def test_real_data_pass(recipe, repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)
    cfg = load(recipe)
    if not Path(cfg.train_dataloader.dataset.data_root).is_dir():
        pytest.skip(f"{cfg.train_dataloader.dataset.data_root} is not there")
    assert check_coco(cfg, TRAIN + VAL) == []


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
    assert check_coco(config(folder, content, metainfo=dict(classes=path)), TRAIN) == []


def test_categories_that_will_be_left_out_are_named(folder, content):
    content["categories"].insert(1, dict(id=1, name="bird"))
    (note,) = check_coco(config(folder, content), TRAIN)
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
    assert check_coco(config(folder, content), TRAIN) == []
    with pytest.raises(ValueError, match="1 of the 100 images"):
        check_coco(config(folder, content), VAL)


def test_images_of_another_size_than_annotated_are_refused(folder, content):
    Image.new("RGB", (16, 12)).save(folder / "1.jpg")
    with pytest.raises(ValueError, match=r"1\.jpg' has 16x12 pixels, but .* says 32x24"):
        check_coco(config(folder, content), TRAIN)


def test_a_camera_that_was_turned_is_no_other_size(folder, content):
    Image.new("RGB", (24, 32)).save(folder / "1.jpg")
    assert check_coco(config(folder, content), TRAIN) == []


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


def test_an_object_without_a_sound_polygon_does_not_stop_a_run(folder, content):
    content["annotations"][1].update(segmentation=[[1, 2, 3, 4]])
    assert check_coco(config(folder, content), TRAIN) == []


def test_boxes_are_enough_for_a_detector_without_masks(folder, content):
    content["annotations"][1].pop("segmentation")
    assert check_coco(config(folder, content, pipeline=[]), TRAIN) == []


def test_annotations_of_other_categories_and_images_may_be_anything(folder, content):
    for other in (dict(category_id=99), dict(image_id=99)):
        content["annotations"].append(
            content["annotations"][0]
            | dict(id=len(content["annotations"]) + 9, segmentation=None)
            | other
        )
    assert check_coco(config(folder, content), TRAIN) == []


@pytest.mark.parametrize("loaders", [TRAIN, VAL])
def test_data_without_any_object_are_refused(folder, content, loaders):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(ValueError, match="has no object on its 3 images, out of 2 annotations"):
        check_coco(config(folder, content), loaders)


def test_a_submission_to_the_test_server_needs_no_annotations(folder, content):
    content.pop("annotations")
    cfg = config(folder, content)
    cfg.val_evaluator.format_only = True
    assert check_coco(cfg, VAL) == []


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
