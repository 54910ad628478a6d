"""The short protocol keeps model and losses, and shrinks schedule, images and data."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.evaluation.recipes import Shape, recipe, set_data
from milan_mm.evaluation.short import ITERATIONS, NUM_VAL, shorten, small_images
from milan_mm.models.vit_options import ARCHS
from milan_mm.shapes.files import write_shapes
from tests.run.own_data.folders import image_folder
from tests.small_data import coco_of

BASE = Shape(**ARCHS["base"], patch_size=16, img_size=224, with_cls_token=True)


def short_recipe(task: str, data: Path, folder: Path) -> Config:
    cfg = recipe(task, BASE)[1]
    set_data(cfg, data)
    shorten(cfg, task, folder)
    return cfg


def test_segmentation_shrinks_images_crops_and_windows(tmp_path):
    cfg = short_recipe("ade20k", tmp_path, tmp_path)
    assert cfg.train_cfg.max_iters == ITERATIONS
    assert cfg.model.data_preprocessor["size"] == (128, 128)
    assert cfg.model.test_cfg.crop_size == (128, 128) and cfg.model.test_cfg.stride == (85, 85)
    resize, crop = cfg.train_dataloader.dataset.pipeline[2:4]
    assert resize.scale == (512, 128) and crop.crop_size == (128, 128)
    assert cfg.val_dataloader.dataset.pipeline[1].scale == (512, 128)
    assert cfg.val_dataloader.dataset.indices == cfg.test_dataloader.dataset.indices == NUM_VAL
    assert cfg.model.decode_head == recipe("ade20k", BASE)[1].model.decode_head


def test_detection_validates_on_the_first_images_alone(tmp_path):
    write_shapes(tmp_path / "shapes", 1, 2, 20, size=48, progress=False)
    root = coco_of(tmp_path / "shapes", tmp_path)
    cfg = short_recipe("coco", tmp_path, tmp_path / "short")
    assert cfg.model.data_preprocessor.pad_size_divisor == 256
    assert cfg.model.backbone.rel_pos_grid == (16, 16)
    assert cfg.model.train_cfg.rcnn.sampler.num == 512 // 8
    assert cfg.model.test_cfg.rpn.max_per_img == 1000 // 8
    assert cfg.train_dataloader.dataset.pipeline[4].crop_size == (256, 256)
    file = cfg.test_dataloader.dataset.ann_file
    assert file == cfg.val_dataloader.dataset.ann_file == cfg.test_evaluator.ann_file
    small = json.loads(Path(file).read_text())
    whole = json.loads((root / "annotations/instances_val2017.json").read_text())
    assert small["images"] == whole["images"][:NUM_VAL]
    ids = {image["id"] for image in small["images"]}
    assert small["annotations"] == [a for a in whole["annotations"] if a["image_id"] in ids]
    assert small["categories"] == whole["categories"]


def test_classification_reads_few_images_of_few_classes(tmp_path):
    image_folder(tmp_path / "imagenet", ("a", "b"), per_class=12)
    cfg = short_recipe("finetune", tmp_path, tmp_path / "short")
    (root,) = (tmp_path / "short").iterdir()
    assert cfg.train_dataloader.dataset.dataset.data_root == str(root)
    assert cfg.test_dataloader.dataset.data_root == str(root)
    assert cfg.train_dataloader.num_batch_per_epoch == ITERATIONS
    assert len(list(root.glob("train/*/*"))) == 2 * 10 and len(list(root.glob("val/*/*"))) == 2 * 4


def test_classes_are_spread_over_those_of_both_splits(tmp_path):
    image_folder(tmp_path / "all", tuple(f"c{i:02}" for i in range(30)), per_class=1)
    (tmp_path / "all/val/c00").rename(tmp_path / "all/val/other")
    root = small_images(tmp_path / "all", tmp_path / "short")
    classes = [sorted(p.name for p in (root / split).iterdir()) for split in ("train", "val")]
    assert classes[0] == classes[1] and len(classes[0]) == 10
    assert classes[0][0] == "c01" and classes[0][-1] > "c25"


def test_links_lead_to_the_images_and_are_made_once(tmp_path):
    image_folder(tmp_path / "all", per_class=1)
    first = small_images(tmp_path / "all", tmp_path / "short")
    assert small_images(tmp_path / "all", tmp_path / "short") == first
    assert small_images(first, tmp_path / "short") == first
    for link in first.glob("*/*/*"):
        assert link.read_bytes() == (tmp_path / "all" / link.relative_to(first)).read_bytes()


def test_links_follow_a_folder_that_changed(tmp_path):
    folder, short = tmp_path / "all", tmp_path / "short"
    image_folder(folder, tuple(f"c{i:02}" for i in range(12)), per_class=1)
    small_images(folder, short)
    for split in ("train", "val"):
        (folder / split / "c00").rename(tmp_path / f"gone {split}")
    image_folder(folder, ("new0", "new1"), per_class=1)
    fresh = small_images(folder, tmp_path / "made anew")
    found = small_images(folder, short)

    def listed(root):
        return sorted(str(path.relative_to(root)) for path in root.glob("*/**/*"))

    assert listed(found) == listed(fresh)


def test_two_roots_of_one_name_are_not_mixed(tmp_path):
    for name in ("a", "b"):
        image_folder(tmp_path / name / "images", (f"{name}0", f"{name}1"), per_class=1)
    small = [small_images(tmp_path / n / "images", tmp_path / "short") for n in ("a", "b")]
    classes = [sorted(path.name for path in (root / "train").iterdir()) for root in small]
    assert classes == [["a0", "a1"], ["b0", "b1"]]


def test_splits_without_a_common_class_are_refused(tmp_path):
    image_folder(tmp_path / "all", ("a",))
    (tmp_path / "all/val/a").rename(tmp_path / "all/val/b")
    with pytest.raises(ValueError, match="has no class in both splits"):
        small_images(tmp_path / "all", tmp_path / "short")


def test_missing_data_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"instances_val2017\.json' does not exist"):
        short_recipe("coco", tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="imagenet' does not exist"):
        short_recipe("linear", tmp_path, tmp_path / "short")
