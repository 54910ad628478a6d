"""`--data` of a detection recipe: any folder in the COCO format."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import load
from tests.run.own_data.folders import coco_folder, write_coco

RECIPE = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"


def _dataset(cfg: Config, loader: str) -> CocoDataset:
    settings = dict(cfg[loader].dataset, pipeline=[])
    assert settings.pop("type") == "CocoDataset"
    return CocoDataset(**settings)


def _val_json(root: Path) -> Path:
    return root / "annotations/instances_val2017.json"


def _edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader"])
def test_every_split_has_the_classes_of_the_json_in_its_order(tmp_path: Path, loader: str):
    categories = ("zebra", "ant", "gnu")
    cfg = load(RECIPE)
    set_own_data(cfg, str(coco_folder(tmp_path, categories=categories)))
    dataset = _dataset(cfg, loader)
    assert dataset.metainfo["classes"] == categories
    assert len(dataset) == 2
    for i in range(2):
        info = dataset.get_data_info(i)
        split = "train2017" if loader == "train_dataloader" else "val2017"
        assert Path(info["img_path"]).is_file() and split in info["img_path"]
        assert [instance["bbox_label"] for instance in info["instances"]] == [0, 1, 2]


def test_heads_palette_and_evaluators_follow(tmp_path: Path):
    cfg = load(RECIPE)
    cfg.model.rpn_head.num_classes = 1
    set_own_data(cfg, str(coco_folder(tmp_path)))
    assert cfg.model.roi_head.bbox_head.num_classes == 3
    assert cfg.model.roi_head.mask_head.num_classes == 3
    assert cfg.model.rpn_head.num_classes == 1  # object or not
    for name in ("val_evaluator", "test_evaluator"):
        assert Path(cfg[name].ann_file) == _val_json(tmp_path)
    assert len(set(cfg.val_dataloader.dataset.metainfo.palette)) == 3


def test_the_heads_of_a_cascade_follow(tmp_path: Path):
    cfg = load(RECIPE)
    cfg.model.roi_head.bbox_head = [dict(num_classes=2), dict(num_classes=2)]
    set_own_data(cfg, str(coco_folder(tmp_path)))
    assert [head.num_classes for head in cfg.model.roi_head.bbox_head] == [3, 3]


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}.json", "images/{}"),
        ("annotations/instances_{}.json", "images"),
        ("annotations/{}.json", "images/{}"),
        ("annotations/{}.json", "{}"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}/labels.json", "{}/images"),
        ("{}.json", "{}"),
    ],
)
def test_usual_layouts_are_found(tmp_path: Path, annotations: str, images: str):
    for split, num_images in (("train", 3), ("val", 2)):
        write_coco(
            tmp_path / annotations.format(split), tmp_path / images.format(split), num_images
        )
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    for loader, num_images in (("train_dataloader", 3), ("val_dataloader", 2)):
        dataset = _dataset(cfg, loader)
        assert len(dataset) == num_images
        assert all(Path(dataset.get_data_info(i)["img_path"]).is_file() for i in range(num_images))


def test_the_folder_with_the_images_of_the_json_is_taken(tmp_path: Path):
    coco_folder(tmp_path)
    (tmp_path / "train2017").rename(tmp_path / "images")
    (tmp_path / "train2017").mkdir()
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    assert cfg.train_dataloader.dataset.data_prefix.img == "images"


def test_file_names_with_folders_are_understood(tmp_path: Path):
    coco_folder(tmp_path)

    def add_folder(content: dict) -> None:
        for image in content["images"]:
            image["file_name"] = "train2017/" + image["file_name"]

    _edit(tmp_path / "annotations/instances_train2017.json", add_folder)
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    assert Path(_dataset(cfg, "train_dataloader").get_data_info(0)["img_path"]).is_file()


def test_the_summary_counts_images_objects_and_classes_without_objects(tmp_path: Path):
    coco_folder(tmp_path)
    for split in ("train", "val"):
        _edit(
            tmp_path / f"annotations/instances_{split}2017.json",
            lambda content: content["categories"].append(dict(id=99, name="unicorn")),
        )
    notes = " ".join(set_own_data(load(RECIPE), str(tmp_path)))
    assert f"2 images in '{tmp_path / 'train2017'}', 6 objects in" in notes
    assert "4 classes: 'blue', 'green', 'red', 'unicorn'; without any object" in notes
    assert notes.endswith("to learn from: 'unicorn'")


def test_without_masks_a_detector_of_boxes_is_trained(tmp_path: Path):
    cfg = load("det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco")
    notes = set_own_data(cfg, str(coco_folder(tmp_path, masks=False)))
    assert "the mask head is left out, AP is of boxes" in notes[-1]
    assert cfg.model.roi_head.mask_head is cfg.model.roi_head.mask_roi_extractor is None
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == "bbox"
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert not any(transform.get("with_mask") for transform in loader.dataset.pipeline)
        assert not any(transform.get("recompute_bbox") for transform in loader.dataset.pipeline)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: _val_json(root).unlink(),
            r"no COCO annotations of a val split: looked for annotations/instances_val\*\.json.*"
            r"valid/_annotations\.coco\.json.*put the file",
        ),
        (
            lambda root: (root / "val2017/1.png").unlink(),
            r"1 of the 2 images of '.*' are not in '.*val2017', first '1\.png': add them",
        ),
        (
            lambda root: (root / "val2017").rename(root / "elsewhere"),
            r"none of the 2 images of '.*' is there, e\.g\. '0\.png': looked in '",
        ),
    ],
)
def test_missing_files_are_named(tmp_path: Path, spoil, message: str):
    spoil(coco_folder(tmp_path))
    with pytest.raises(FileNotFoundError, match=message):
        set_own_data(load(RECIPE), str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), r"instances_val2017\.json' has no list 'images'"),
        (lambda c: c["annotations"].clear(), "has no object on its 2 images, out of 0"),
        (lambda c: c["annotations"][1].pop("area"), "annotation 2 of .* has no 'area'"),
        (lambda c: c["annotations"][1].update(bbox=[1]), r"annotation 2 of .* has bbox \[1\]"),
        (
            lambda c: c["categories"].pop(0),
            "annotation 1 of '.*' has category_id 10, which is none of the categories 20, 30",
        ),
        (
            lambda c: c["categories"].reverse(),
            "3 categories and '.*' 3, which differ from label 0 on, 'blue' against 'red'",
        ),
        (lambda c: c["categories"][0].update(name="red"), "several categories named 'red'"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tmp_path: Path, change, message: str):
    _edit(_val_json(coco_folder(tmp_path)), change)
    with pytest.raises(ValueError, match=message):
        set_own_data(load(RECIPE), str(tmp_path))


def test_masks_of_some_objects_only_are_refused(tmp_path: Path):
    path = coco_folder(tmp_path) / "annotations/instances_train2017.json"
    _edit(path, lambda content: content["annotations"][0].pop("segmentation"))
    with pytest.raises(ValueError, match=r"1 of 6 objects in '.*' have no segmentation: annotate"):
        set_own_data(load(RECIPE), str(tmp_path))


def test_two_files_of_one_split_are_refused(tmp_path: Path):
    write_coco(coco_folder(tmp_path) / "annotations/instances_val.json", tmp_path / "val")
    message = r"instances_val\.json' and '.*instances_val2017\.json' both fit the val split"
    with pytest.raises(ValueError, match=message):
        set_own_data(load(RECIPE), str(tmp_path))


# Other detectors


def _evaluators(cfg: Config) -> set[tuple[str, str | tuple]]:
    return {
        (e.type, e.metric if isinstance(e.metric, str) else tuple(e.metric))
        for e in (cfg.val_evaluator, cfg.test_evaluator)
    }


def test_mask2former_weighs_as_many_classes_as_there_are(tmp_path: Path):
    cfg = load("det/mask2former_vit-base-p16_8xb2-amp-lsj-50e_coco")
    set_own_data(cfg, str(coco_folder(tmp_path)))
    assert cfg.model.panoptic_head.loss_cls.class_weight == [1.0, 1.0, 1.0, 0.1]


def test_boxes_alone_are_refused_by_a_detector_that_learns_from_masks(tmp_path: Path):
    cfg = load("det/mask2former_vit-base-p16_8xb2-amp-lsj-50e_coco")
    with pytest.raises(ValueError, match=r"has no masks, and Mask2Former .* annotate masks, or"):
        set_own_data(cfg, str(coco_folder(tmp_path, masks=False)))


def test_boxes_alone_are_enough_for_a_detector_of_boxes(tmp_path: Path):
    cfg = load("det/fcos_vit-base-p16_8xb8-amp-lsj-100e_coco")
    lines = set_own_data(cfg, str(coco_folder(tmp_path, masks=False)))
    loading = [t for t in cfg.train_dataloader.dataset.pipeline if "with_mask" in t]
    assert [t.with_mask for t in loading] == [False]
    assert not any("mask head" in line for line in lines)
    assert _evaluators(cfg) == {("milan_mm.CocoMetric", "bbox")}


def test_every_stage_of_a_cascade_without_masks_keeps_its_boxes(tmp_path: Path):
    cfg = load("det/cascade-mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco")
    set_own_data(cfg, str(coco_folder(tmp_path, masks=False)))
    heads = cfg.model.roi_head
    assert heads.mask_head is None
    assert [head.num_classes for head in heads.bbox_head] == [3, 3, 3]


def test_own_data_are_judged_by_cocos_ap_if_they_do_not_say_what_lvis_asks(tmp_path: Path):
    cfg = load("det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_lvis")
    set_own_data(cfg, str(coco_folder(tmp_path)))
    assert _evaluators(cfg) == {("milan_mm.CocoMetric", ("bbox", "segm"))}
    assert cfg.model.roi_head.bbox_head.loss_cls.num_classes == 3

    def to_lvis(content: dict) -> None:
        for category in content["categories"]:
            category["frequency"] = "c"
        for image in content["images"]:
            image.update(neg_category_ids=[], not_exhaustive_category_ids=[])

    _edit(_val_json(tmp_path), to_lvis)
    cfg = load("det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_lvis")
    set_own_data(cfg, str(tmp_path))
    assert _evaluators(cfg) == {("milan_mm.LVISMetric", ("bbox", "segm"))}
