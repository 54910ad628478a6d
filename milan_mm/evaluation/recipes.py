"""The recipe that judges an encoder in a task; `short.py` cuts it down for a CPU."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation.results import PATCH_SIZE
from milan_mm.models.vit_options import ARCHS
from milan_mm.run.config_nodes import config_nodes
from milan_mm.run.fields.image_size import check_patches
from milan_mm.weights.encoder import Encoder

RECIPES = dict(
    linear="cls/linear_vit-{arch}-p{patch}_8xb2048-amp-coslr-100e_in1k",
    finetune="cls/finetune_vit-{arch}-p{patch}_8xb128-amp-coslr-100e_in1k",
    coco="det/mask-rcnn_vit-{arch}-p{patch}_8xb8-amp-lsj-100e_coco",
    ade20k="seg/upernet_vit-{arch}-p{patch}_8xb2-amp-160k_ade20k-512x512",
)
# What counts the length of their recipes, as an option of the tools.
UNITS = dict(linear="epochs", finetune="epochs", coco="iters", ade20k="iters")
SIZED = ("base", "large")  # architectures with recipes of their own
KNN = dict(k=20, temperature=0.07, crop_pct=0.875)  # the published vote, see knn.py
# What tools/test.py measures -> metric and the factor to %.
MEASURES = dict(
    linear={"accuracy/top1": ("top-1", 1), "accuracy/top5": ("top-5", 1)},
    finetune={"accuracy/top1": ("top-1", 1), "accuracy/top5": ("top-5", 1)},
    coco={"coco/bbox_mAP": ("box AP", 100), "coco/segm_mAP": ("mask AP", 100)},
    ade20k={"mIoU": ("mIoU", 1)},
)


@dataclass(frozen=True)
class Shape:
    """What names and sizes of a recipe follow from an encoder; sizes in pixels."""

    embed_dims: int
    num_layers: int
    num_heads: int
    patch_size: int
    img_size: int
    with_cls_token: bool

    @classmethod
    def of(cls, encoder: Encoder) -> "Shape":
        """That of what was read from a file.

        Raises:
            UserError: See `Encoder.model_settings`.
        """
        settings = encoder.model_settings()
        names = ("patch_size", "img_size", "with_cls_token")
        return cls(**settings["arch"], **{name: settings[name] for name in names})

    @property
    def arch(self) -> str:
        """'base' and the like; 'w48d3' for width 48 and 3 blocks that have no name."""
        sizes = dict(
            embed_dims=self.embed_dims, num_layers=self.num_layers, num_heads=self.num_heads
        )
        named = [name for name, arch in ARCHS.items() if arch == sizes]
        return named[0] if named else f"w{self.embed_dims}d{self.num_layers}"


def knn_recipe(shape: Shape, img_size: int | None = None) -> tuple[str, dict[str, Any]]:
    """Name and settings of k-NN, by the class token if there is one.

    Args:
        img_size: Side of the images in pixels; None takes that of the pretraining.

    Raises:
        UserError: For a size that patches do not divide.
    """
    feature = "cls_token" if shape.with_cls_token else "avg"
    check_patches(img_size or shape.img_size, shape.patch_size, f"--img-size {img_size}")
    settings = KNN | dict(feature=feature, img_size=img_size or shape.img_size)
    return f"knn_vit-{shape.arch}-p{shape.patch_size}", settings


def recipe(task: str, shape: Shape) -> tuple[str, Config]:
    """Name and content of the recipe of a trained task.

    ViT-B and ViT-L have recipes of their own; other widths and depths take that of ViT-B, with the
    blocks that dense tasks use at the same shares of the depth. Patches of other sizes are a matter
    of `set_encoder_weights`; the name identifies those of the encoder.

    Raises:
        UserError: When no recipe fits the encoder.
    """
    sized = shape.arch in SIZED
    name = RECIPES[task].format(arch=shape.arch, patch=shape.patch_size)
    source = RECIPES[task].format(arch=shape.arch if sized else "base", patch=PATCH_SIZE)
    cfg = load(source)
    if sized:
        return name, cfg
    if shape.num_layers < 4:
        raise UserError(
            f"the encoder has {shape.num_layers} blocks, the recipes need 4: evaluate it with "
            "--tasks knn"
        )
    _resize(cfg, task, shape)
    return name, cfg


def _resize(cfg: Config, task: str, shape: Shape) -> None:
    """Fit a recipe of ViT-B to another width and depth, in place."""
    model, width = cfg.model, shape.embed_dims
    model.backbone.arch = ConfigDict(
        embed_dims=width, num_layers=shape.num_layers, num_heads=shape.num_heads
    )
    quarters = tuple(shape.num_layers * i // 4 - 1 for i in (1, 2, 3, 4))
    if task == "coco":
        model.backbone.global_layers = quarters
        model.neck.in_channels = width
    elif task == "ade20k":
        model.backbone.out_indices = quarters
        model.neck.embed_dim = model.auxiliary_head.in_channels = width
        model.decode_head.update(in_channels=[width] * 4, channels=width)
    else:
        model.head.in_channels = width
        if "neck" in model:
            model.neck.input_features = width


def set_data(cfg: Config, root: Path) -> None:
    """Read the data from ROOT/imagenet, ROOT/coco or ROOT/ade instead of data/, in place."""
    for _, node in config_nodes(cfg):
        for key in ("data_root", "ann_file"):
            path = node.get(key)
            if isinstance(path, str) and path.startswith("data/"):
                node[key] = str(root / path.removeprefix("data/"))
