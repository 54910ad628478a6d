"""The detection recipes live: with each, a small ViT learns eight images of COCO by heart."""

import json
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config, ConfigDict

from milan_mm.configs import load
from milan_mm.run.config_nodes import config_nodes
from milan_mm.run.training import train

# Recipe: iterations, width of the heads, learning rate, least box and mask AP
RECIPES = {
    "mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco": (1000, 32, 1e-3, 0.9, 0.8),
    "cascade-mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco": (500, 32, 1e-3, 0.85, 0.65),
    "cascade-mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_lvis": (500, 32, 1e-3, 0.85, 0.65),
    "fcos_vit-base-p16_8xb8-amp-lsj-100e_coco": (500, 64, 1e-3, 0.8, None),
    "mask2former_vit-base-p16_8xb2-amp-lsj-50e_coco": (500, 64, 1e-3, 0.5, 0.5),
}
NUM_IMAGES, SIDE = 8, 192  # images, pixels
EMBED_DIMS = 192
NUM_CLASSES = 80


def write_easy_images(source: Path, out: Path) -> None:
    """Write the annotations of those images whose smallest object is the largest.

    They are fit for LVIS, too, as if every image had been checked for all categories.
    """
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
    for category in content["categories"]:
        category["frequency"] = "f"
    for image in images:
        found = {annotation["category_id"] for annotation in objects[image["id"]]}
        numbers = {category["id"] for category in content["categories"]}
        image.update(neg_category_ids=sorted(numbers - found), not_exhaustive_category_ids=[])
    out.write_text(json.dumps(content))


def narrow(model: ConfigDict, channels: int) -> None:
    """Let everything behind the encoder be `channels` wide, and see fewer regions, in place."""
    model.neck.in_channels = EMBED_DIMS
    sizes = dict(
        embed_dims=channels,
        num_feats=channels // 2,
        feedforward_channels=4 * channels,
        fc_out_channels=256,
        num_groups=8,
        num_classes=NUM_CLASSES,
    )
    sizes |= dict.fromkeys(
        ("in_channels", "feat_channels", "conv_out_channels", "out_channels"), channels
    )
    heads = [model.get(name) for name in ("rpn_head", "roi_head", "bbox_head", "panoptic_head")]
    for _, node in config_nodes(heads):
        node.update({key: sizes[key] for key in sizes.keys() & node.keys()})
    model.neck.out_channels = channels
    if "panoptic_head" in model:
        model.panoptic_head.in_channels = [channels] * 4
        model.train_cfg.num_points = 1024
    if "rpn_head" in model:
        model.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=64)
        model.test_cfg.rpn.update(nms_pre=200, max_per_img=64)
        stages = model.train_cfg.rcnn
        (stages[0] if isinstance(stages, list) else stages).sampler.num = 32


def small_recipe(name: str, root: Path, ann_file: Path, work_dir: Path) -> Config:
    """A ViT-B recipe with a small ViT, narrow heads and small images; validation is on the
    training images.

    Without the flip and the jitter of the scale, which eight images leave nothing to generalise
    from; float32, since bfloat16 is slow on many CPUs.
    """
    num_iters, channels, lr, _, _ = RECIPES[name]
    cfg = load(f"det/{name}")
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
    narrow(model, channels)
    for name in ("train_dataloader", "val_dataloader"):
        loader = cfg[name]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), ann_file=str(ann_file))
        loader.dataset.data_prefix.img = "train2017/"
        loader.dataset.metainfo = dict(classes=CocoDataset.METAINFO["classes"])
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
    cfg.optim_wrapper.optimizer.update(lr=lr)
    cfg.optim_wrapper.clip_grad = dict(max_norm=5.0)
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0  # nothing is pretrained
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=num_iters, eta_min=0.0),
    ]
    cfg.train_cfg.update(max_iters=num_iters, val_interval=num_iters)
    cfg.default_hooks.checkpoint.interval = 2 * num_iters  # none
    cfg.work_dir, cfg.launcher = str(work_dir), "none"
    return cfg


@pytest.mark.long
@pytest.mark.overfit
@pytest.mark.parametrize("name", RECIPES)
def test_eight_images_of_coco_are_learnt_by_heart(name: str, repo_root: Path, tmp_path: Path):
    root = repo_root / "data/coco"
    if not root.is_dir():
        pytest.skip("data/coco is not there")
    ann_file = tmp_path / "instances.json"
    write_easy_images(root / "annotations/instances_train2017.json", ann_file)
    runner = train(small_recipe(name, root, ann_file, tmp_path / "run"), None, [])
    key = "val/lvis/{}_AP" if name.endswith("_lvis") else "val/coco/{}_mAP"
    for kind, least in zip(("bbox", "segm"), RECIPES[name][-2:], strict=True):
        if least is not None:
            assert runner.message_hub.get_scalar(key.format(kind)).current() >= least
