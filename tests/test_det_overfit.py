"""The detection pipeline lives: a small ViT learns eight images of COCO by heart."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.configs import find_config
from milan_mm.engine.training import train

BASE = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
CHANNELS = 64
SIDE = 256  # pixels
ITERATIONS, LR = 300, 1e-3


def easy_images(source: Path, folder: Path, num_images: int) -> dict:
    """Write the annotations of those images whose smallest object takes most of the picture.

    Returns: the content written to `folder`/instances.json.
    """
    content = json.loads(source.read_text())
    objects: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)

    def smallest(image: dict) -> float:
        areas = [a["area"] for a in objects[image["id"]] if not a["iscrowd"]]
        return min(areas, default=0) / (image["width"] * image["height"])

    images = sorted(content["images"], key=smallest, reverse=True)[:num_images]
    content["images"] = images
    content["annotations"] = [a for image in images for a in objects[image["id"]]]
    (folder / "instances.json").write_text(json.dumps(content))
    return content


def small_recipe(root: Path, ann_file: Path, iterations: int, lr: float) -> Config:
    """The COCO recipe with a ViT of 4 blocks, narrow heads, small pictures and no augmentation."""
    config = Config.fromfile(find_config(BASE))
    size, model = (SIDE, SIDE), config.model
    model.data_preprocessor.pad_size_divisor = SIDE
    model.backbone.update(
        arch=dict(embed_dims=192, num_layers=4, num_heads=6),
        img_size=SIDE,
        window_size=6,
        global_layers=(1, 3),
        rel_pos_grid=(SIDE // 16, SIDE // 16),
        drop_path_rate=0.0,
    )
    model.neck.update(in_channels=192, out_channels=CHANNELS)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    roi_head = model.roi_head
    roi_head.bbox_roi_extractor.out_channels = CHANNELS
    roi_head.mask_roi_extractor.out_channels = CHANNELS
    roi_head.bbox_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS, fc_out_channels=256)
    roi_head.mask_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS)
    model.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=100)
    model.train_cfg.rcnn.sampler.num = 64
    model.test_cfg.rpn.update(nms_pre=200, max_per_img=100)

    pipeline = config.train_dataloader.dataset.pipeline
    for step in (*pipeline, *config.val_dataloader.dataset.pipeline):
        if step.type == "RandomFlip":
            step.prob = 0.0
        if step.type == "RandomResize":
            step.ratio_range = (1.0, 1.0)
        step.update({key: size for key in ("scale", "crop_size") if key in step})
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), ann_file=str(ann_file))
        loader.dataset.data_prefix.img = "train2017/"
    config.train_dataloader.batch_size = 4
    config.val_evaluator.ann_file = str(ann_file)

    config.optim_wrapper.type = "OptimWrapper"
    config.optim_wrapper.pop("modules")
    config.optim_wrapper.optimizer.update(lr=lr, weight_decay=0.05)
    config.optim_wrapper.clip_grad = dict(max_norm=5.0)
    config.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=20),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=20, end=iterations, eta_min=0.0),
    ]
    config.train_cfg.update(max_iters=iterations, val_interval=iterations)
    config.default_hooks.checkpoint.interval = 2 * iterations
    return config


@pytest.mark.long
def test_eight_images_of_coco_are_learnt_by_heart(repo_root: Path, tmp_path: Path):
    root = repo_root / "data/coco"
    if not root.is_dir():
        pytest.skip("data/coco is not there")
    easy_images(root / "annotations/instances_train2017.json", tmp_path, num_images=8)
    config = small_recipe(root, tmp_path / "instances.json", iterations=ITERATIONS, lr=LR)
    config.work_dir, config.launcher = str(tmp_path / "work"), "none"
    runner = train(config, resume=None, notes=[])
    box_ap, mask_ap = (
        runner.message_hub.get_scalar(f"val/coco/{kind}_mAP").current() for kind in ("bbox", "segm")
    )
    assert box_ap >= 0.9
    assert mask_ap >= 0.8
