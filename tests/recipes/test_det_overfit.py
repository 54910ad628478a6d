"""The detection pipeline lives: a small ViT learns eight images of COCO by heart."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.run.training import train

RECIPE = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
NUM_IMAGES, SIDE = 8, 192  # images, pixels
EMBED_DIMS, CHANNELS = 192, 32
NUM_ITERS = 1000


def write_easy_images(source: Path, out: Path) -> None:
    """Write the annotations of those images whose smallest object is the largest."""
    content = json.loads(source.read_text())
    objects: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)

    def smallest(image: dict) -> float:
        annotations = objects[image["id"]]
        if any(annotation["iscrowd"] for annotation in annotations):
            return 0.0  # a crowd is no object to learn
        areas = [annotation["area"] for annotation in annotations]
        return min(areas, default=0) / (image["width"] * image["height"])

    images = sorted(content["images"], key=smallest, reverse=True)[:NUM_IMAGES]
    content["images"] = images
    content["annotations"] = [a for image in images for a in objects[image["id"]]]
    out.write_text(json.dumps(content))


def small_recipe(root: Path, ann_file: Path, work_dir: Path) -> Config:
    """The ViT-B recipe with a small ViT, narrow heads and small images; validation is on the
    training images.

    Without the flip and the jitter of the scale, which eight images leave nothing to generalise
    from; float32, since bfloat16 is slow on many CPUs.
    """
    cfg = load(RECIPE)
    size, model = (SIDE, SIDE), cfg.model
    model.data_preprocessor.pad_size_divisor = SIDE
    model.backbone.update(
        arch=dict(embed_dims=EMBED_DIMS, num_layers=4, num_heads=6),
        img_size=SIDE,
        window_size=5,
        global_layers=(1, 3),
        rel_pos_grid=(SIDE // 16, SIDE // 16),
        drop_path_rate=0.0,
    )
    model.neck.update(in_channels=EMBED_DIMS, out_channels=CHANNELS)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    heads = model.roi_head
    for part in ("bbox_roi_extractor", "mask_roi_extractor"):
        heads[part].out_channels = CHANNELS
    heads.bbox_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS, fc_out_channels=256)
    heads.mask_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS)
    model.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=64)
    model.train_cfg.rcnn.sampler.num = 32
    model.test_cfg.rpn.update(nms_pre=200, max_per_img=64)

    for name in ("train_dataloader", "val_dataloader"):
        loader = cfg[name]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), ann_file=str(ann_file))
        loader.dataset.data_prefix.img = "train2017/"
        for transform in loader.dataset.pipeline:
            if transform.type == "mmdet.RandomFlip":
                transform.prob = 0.0
            if transform.type == "RandomResize":
                transform.ratio_range = (1.0, 1.0)
            transform.update({key: size for key in ("scale", "crop_size") if key in transform})
    cfg.train_dataloader.batch_size = 4
    cfg.val_evaluator.ann_file = str(ann_file)

    cfg.optim_wrapper.type = "OptimWrapper"
    cfg.optim_wrapper.pop("modules")
    cfg.optim_wrapper.optimizer.update(lr=1e-3)
    cfg.optim_wrapper.clip_grad = dict(max_norm=5.0)
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0  # nothing is pretrained
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=NUM_ITERS, eta_min=0.0),
    ]
    cfg.train_cfg.update(max_iters=NUM_ITERS, val_interval=NUM_ITERS)
    cfg.default_hooks.checkpoint.interval = 2 * NUM_ITERS  # none
    cfg.work_dir, cfg.launcher = str(work_dir), "none"
    return cfg


@pytest.mark.long
@pytest.mark.overfit
def test_eight_images_of_coco_are_learnt_by_heart(repo_root: Path, tmp_path: Path):
    root = repo_root / "data/coco"
    if not root.is_dir():
        pytest.skip("data/coco is not there")
    ann_file = tmp_path / "instances.json"
    write_easy_images(root / "annotations/instances_train2017.json", ann_file)
    runner = train(small_recipe(root, ann_file, tmp_path / "run"), None, [])
    box_ap, mask_ap = (
        runner.message_hub.get_scalar(f"val/coco/{kind}_mAP").current() for kind in ("bbox", "segm")
    )
    assert box_ap >= 0.9  # measured: 0.97
    assert mask_ap >= 0.8  # measured: 0.86
