"""Segmentation recipes made small, and data for them."""

from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from PIL import Image
from torch import nn

from milan_mm.registry import MODELS
from milan_mm.run.config_nodes import config_nodes
from tests.recipes.test_configs import load

UPERNET = "seg/upernet_vit-{}-p16_8xb2-amp-160k_ade20k-512x512"
LINEAR = "seg/linear-head_vit-{}-p16_8xb2-amp-40k_ade20k-512x512"
WIDTH = 48


def narrow(recipe: str) -> Config:
    """A recipe with the images and tiles as they are, and a model that a CPU hardly notices."""
    cfg = load(recipe)
    levels = len(cfg.model.backbone.out_indices)
    cfg.model.backbone.update(
        arch=dict(embed_dims=WIDTH, num_layers=4, num_heads=4),
        out_indices=tuple(range(4 - levels, 4)),
    )
    if "num_queries" in cfg.model.decode_head:
        narrow_mask2former(cfg.model, WIDTH)
    elif levels == 4:
        cfg.model.neck.embed_dim = WIDTH
        cfg.model.decode_head.update(in_channels=[WIDTH] * 4, channels=16)
        cfg.model.auxiliary_head.update(in_channels=WIDTH, channels=16)
    else:
        cfg.model.neck.embed_dims = WIDTH
        cfg.model.decode_head.update(in_channels=WIDTH, channels=WIDTH)
    for norm in (cfg.model.neck, cfg.model.decode_head, cfg.model.get("auxiliary_head") or {}):
        if norm.get("norm_cfg"):
            norm.norm_cfg = dict(type="BN")
    return cfg


def narrow_mask2former(model: ConfigDict, width: int, num_layers: int = 1) -> None:
    """Fewer queries, points and layers, and a quarter of the channels, in place.

    Args:
        width: Of the encoder.
    """
    head = model.decode_head
    head.num_queries, head.train_cfg.num_points = 20, 512
    head.transformer_decoder.num_layers = head.pixel_decoder.encoder.num_layers = num_layers
    widths = ("embed_dims", "feat_channels", "out_channels", "num_feats", "feedforward_channels")
    for _, node in config_nodes(head):
        node.update({name: node[name] // 4 for name in widths if name in node})
    model.neck.update(in_channels=width, out_channels=head.feat_channels)
    head.in_channels = [head.feat_channels] * 4


def shorten(cfg: Config, divisor: int = 8) -> Config:
    """The same with crops, tiles and resized images of an eighth of their side, in place."""
    size = (512 // divisor,) * 2
    cfg.model.data_preprocessor.size = size
    if cfg.model.test_cfg.mode == "slide":
        cfg.model.data_preprocessor.test_cfg = dict(size=size)
        cfg.model.test_cfg.update(crop_size=size, stride=(341 // divisor,) * 2)
    loaders = (cfg[f"{name}_dataloader"] for name in ("train", "val", "test"))
    for pipeline in (cfg.tta_pipeline, *(loader.dataset.pipeline for loader in loaders)):
        for transform in pipeline:
            if transform.type == "RandomChoiceResize":
                transform.scales = [scale // divisor for scale in transform.scales]
            if transform.type in ("RandomResize", "mmseg.Resize"):
                transform.scale = (2048 // divisor, 512 // divisor)
            if transform.type == "mmseg.RandomCrop":
                transform.crop_size = size
            if transform.type == "TestTimeAug":
                for resize in transform.transforms[0]:
                    if "scale" in resize:
                        resize.scale //= divisor
    return cfg


def build_segmentor(cfg: Config) -> nn.Module:
    """The model of a segmentation recipe with its initial weights."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(ConfigDict(cfg.model))
        model.init_weights()
    return model


def write_ade(root: Path, labels: list[np.ndarray]) -> Path:
    """Random images with the given labels in ADE20K's folders, the same in both splits."""
    generator = np.random.default_rng(0)
    for split in ("training", "validation"):
        for part in ("images", "annotations"):
            (root / part / split).mkdir(parents=True, exist_ok=True)
        for i, values in enumerate(labels):
            image = generator.integers(0, 255, (*values.shape, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / f"images/{split}/{i:03d}.jpg")
            Image.fromarray(values).save(root / f"annotations/{split}/{i:03d}.png")
    return root


def use_data(cfg: Config, root: Path) -> Config:
    """Let every data loader of a recipe read `root`, in place, without worker processes."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.data_root = str(root)
        cfg[name].update(num_workers=0, persistent_workers=False)
    return cfg
