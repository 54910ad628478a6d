"""The recipe that judges an encoder in a task; `short.py` cuts it down for a CPU."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation.tasks import PATCH_SIZE, TASKS
from milan_mm.models.vit_options import ARCHS
from milan_mm.run.config_nodes import config_nodes
from milan_mm.run.fields.image_size import check_patches
from milan_mm.weights.encoder import Encoder

_NOT_PARTS = {"backbone", "data_preprocessor", "train_cfg", "test_cfg"}
SIZED = ("base", "large")  # architectures with recipes of their own
CROP_PCT = 0.875  # of the short side: ImageNet's 224 of 256 pixels


@dataclass(frozen=True)
class Shape:
    """What names and sizes of a recipe follow from an encoder; sizes in pixels."""

    embed_dims: int
    num_layers: int
    num_heads: int
    patch_size: int
    img_size: int
    with_cls_token: bool
    with_pool: bool = False

    @classmethod
    def of(cls, encoder: Encoder) -> "Shape":
        """That of what was read from a file.

        Raises:
            UserError: See `Encoder.model_settings`.
        """
        settings = encoder.model_settings()
        names = ("patch_size", "img_size", "with_cls_token")
        with_pool = bool(settings.get("pool_heads"))
        named = {name: settings[name] for name in names}
        return cls(**settings["arch"], **named, with_pool=with_pool)

    @property
    def arch(self) -> str:
        """'base' and the like; 'w48d3' for width 48 and 3 blocks that have no name."""
        sizes = dict(
            embed_dims=self.embed_dims, num_layers=self.num_layers, num_heads=self.num_heads
        )
        named = [name for name, arch in ARCHS.items() if arch == sizes]
        return named[0] if named else f"w{self.embed_dims}d{self.num_layers}"


def frozen_recipe(
    task: str,
    shape: Shape,
    feature: str,
    img_size: int | None = None,
    crop_pct: float | None = None,
) -> tuple[str, dict[str, Any]]:
    """Name of a protocol on frozen features, and what its features depend on.

    Args:
        feature: What they are of.
        img_size: Side of the images in pixels; None takes that of the pretraining.
        crop_pct: Share of the short side that the centre crop keeps; None takes ImageNet's.

    Raises:
        UserError: For a size that patches do not divide.
    """
    check_patches(img_size or shape.img_size, shape.patch_size, f"--img-size {img_size}")
    size = dict(crop_pct=crop_pct or CROP_PCT, img_size=img_size or shape.img_size)
    settings = size | dict(feature=feature)
    return f"{task}_vit-{shape.arch}-p{shape.patch_size}", settings


def recipe(task: str, shape: Shape) -> tuple[str, Config]:
    """Name and content of the recipe of a trained task.

    ViT-B and ViT-L have recipes of their own; other widths and depths take that of ViT-B, with the
    blocks that dense tasks use at the same shares of the depth. Patches of other sizes are a matter
    of `set_encoder_weights`; the name identifies those of the encoder.

    Raises:
        UserError: When no recipe fits the encoder.
    """
    sized = shape.arch in SIZED
    name = recipe_name(task, shape.arch, shape.patch_size)
    source = recipe_name(task, shape.arch if sized else "base")
    cfg = load(source)
    if sized:
        return name, cfg
    if shape.num_layers < 4:
        raise UserError(
            f"the encoder has {shape.num_layers} blocks, the recipes need 4: evaluate it with "
            "--tasks knn"
        )
    _resize(cfg.model, shape)
    return name, cfg


def recipe_name(task: str, arch: str, patch_size: int = PATCH_SIZE) -> str:
    """That of a task that trains, for an architecture and a patch size in pixels."""
    pattern = TASKS[task].recipe
    assert pattern, task
    return pattern.format(arch=arch, patch=patch_size)


def _resize(model: ConfigDict, shape: Shape) -> None:
    """Fit a model of ViT-B to another width and depth, in place.

    Necks and heads state the width of ViT-B wherever they follow it; it is no other size of theirs.
    """
    backbone, width, depth = model.backbone, ARCHS["base"]["embed_dims"], shape.num_layers
    backbone.arch = ConfigDict(
        embed_dims=shape.embed_dims, num_layers=depth, num_heads=shape.num_heads
    )
    quarters = tuple(depth * i // 4 - 1 for i in (1, 2, 3, 4))
    for blocks in ("global_layers", "out_indices"):
        if len(backbone.get(blocks) or ()) == 4:
            backbone[blocks] = quarters
    for part in model.keys() - _NOT_PARTS:
        for _, node in config_nodes(model[part]):
            for key, value in node.items():
                if value == width:
                    node[key] = shape.embed_dims
                elif isinstance(value, (list, tuple)) and [*value] == [width] * len(value):
                    node[key] = [shape.embed_dims] * len(value)


def set_data(cfg: Config, root: Path) -> None:
    """Read the data from ROOT/imagenet, ROOT/coco or ROOT/ade instead of data/, in place."""
    for _, node in config_nodes(cfg):
        for key in ("data_root", "ann_file"):
            path = node.get(key)
            if isinstance(path, str) and path.startswith("data/"):
                node[key] = str(root / path.removeprefix("data/"))
