"""Which pretraining system a file is from, and what that system's own recipes do with it.

Layouts are told by names; systems often share one. So the name found here is the most probable
one, and what depends on it (input statistics, pooling, activation) says so.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from milan_mm.models.positions import sincos_pos_embed

# Mean and standard deviation of R, G, B in 0-1.
STATS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
# The same in 0-255, as data preprocessors take them.
BYTE_STATS = {
    name: tuple([round(255 * value, 3) for value in values] for values in pair)
    for name, pair in STATS.items()
}
POOLINGS = ("cls", "mean")


@dataclass(frozen=True)
class System:
    """What a pretraining system's own recipes do.

    Attributes:
        stats: Key of `STATS` that the images are normalised by.
        pooling: 'cls', or 'mean' over the patches followed by a norm, in its own classification.
        note: What is not settled about these two, or about the name; '' where all is.
    """

    stats: str
    pooling: str
    note: str = ""


_TWINS = "BEiT, mc-BEiT and PeCo write the same names"
SYSTEMS = {
    "MILAN": System("imagenet", "mean"),
    "MAE": System("imagenet", "mean"),
    "MAE or MILAN": System("imagenet", "mean"),
    "MoCo v3": System("imagenet", "cls"),
    "DINO": System("imagenet", "cls", "DINO names no pooling of its own"),
    "iBOT": System("imagenet", "cls"),
    "DeiT": System("imagenet", "cls"),
    "DeiT III": System("imagenet", "cls"),
    "AugReg": System("half", "cls"),
    "timm classifier": System(
        "half", "cls", "AugReg's and timm's own ViTs take 'half', DeiT's take 'imagenet'"
    ),
    "timm": System("imagenet", "cls", "many systems write these names"),
    "finetuned ViT": System("imagenet", "mean", "many systems write these names"),
    "MaskFeat": System("imagenet", "mean"),
    "SLIP": System("imagenet", "cls"),
    "BEiT": System("half", "mean", f"{_TWINS}; mc-BEiT takes 'imagenet'"),
    "finetuned BEiT": System("half", "mean", "the statistics are those of BEiT's own weights"),
    "mc-BEiT": System("imagenet", "mean"),
    "PeCo": System("imagenet", "mean", "PeCo published no weights: its statistics are unknown"),
    "MVP": System("imagenet", "mean", "MVP published no weights: its statistics are unknown"),
    "SplitMask": System(
        "imagenet", "mean", "SplitMask published no weights: its statistics are unknown"
    ),
    "SimMIM": System("imagenet", "mean"),
    "data2vec": System("imagenet", "mean", "data2vec finetunes with 'half'"),
    "CAE": System("imagenet", "mean"),
    "CLIP": System("clip", "cls"),
    "open_clip": System("clip", "cls"),
    "SWAG": System("imagenet", "cls"),
    "torchvision": System("imagenet", "cls"),
    "DINOv2": System("imagenet", "cls"),
    "DINOv3": System("imagenet", "cls"),
    "Hugging Face ViT": System("half", "cls", "Google's ViTs take 'half', others 'imagenet'"),
    "mmpretrain or milan_mm": System("imagenet", "mean", "many systems write these names"),
}


def guess_system(
    layout: str, prefix: str, wrapper: str, tower: Mapping[str, Tensor], outside: Collection[str]
) -> str:
    """The most probable key of `SYSTEMS`.

    Args:
        layout: Key of `LAYOUTS`.
        prefix: That stood before the names, e.g. 'module.base_encoder.'.
        wrapper: Entry of the file that held the tensors, e.g. 'teacher'; '' for a flat file.
        tower: The file's tensors under their own names, without the prefix.
        outside: Names of the file that have not the prefix.
    """
    if layout == "timm":
        return _guess_timm(prefix, wrapper, tower)
    if layout in ("beit", "mmpretrain-beit", "hf-beit"):
        return _guess_beit(layout, prefix, tower)
    if layout == "clip":
        return "CLIP" if "input_resolution" in outside else "open_clip"
    return {
        "swag": "SWAG",
        "torchvision": "torchvision",
        "augreg-npz": "AugReg",
        "big-vision-npz": "AugReg",
        "dinov3": "DINOv3",
        "dinov3-timm": "DINOv3",
        "hf-dinov3": "DINOv3",
        "hf-dinov2": "DINOv2",
        "hf-vit": "Hugging Face ViT",
        "mmpretrain": "mmpretrain or milan_mm",
    }[layout]


def _guess_timm(prefix: str, wrapper: str, tower: Mapping[str, Tensor]) -> str:
    if prefix.endswith("base_encoder."):
        return "MoCo v3"
    if prefix.endswith("visual.trunk."):
        return "open_clip"
    if prefix.endswith("visual."):
        return "SLIP"
    by_key = {
        "decoder_blocks.0.attn.kv.weight": "MILAN",
        "decoder_blocks.0.attn.qkv.weight": "MAE",
        "pred_head.transforms.0.0.weight": "MaskFeat",
        "pred_head.projections.0.weight": "MaskFeat",
        "masked_embed": "iBOT",
        "dist_token": "DeiT",
        "norm_pre.weight": "open_clip",
        "blocks.0.ls1.gamma": "DINOv2",
        "blocks.0.gamma_1": "DeiT III",
        "fc_norm.weight": "finetuned ViT",
    }
    for key, system in by_key.items():
        if key in tower:
            # DeiT III has layer scale too, but no position for its class token
            if system == "DINOv2" and "reg_token" not in tower and _has_square_table(tower):
                return "DeiT III"
            return system
    if wrapper in ("teacher", "student") or prefix.endswith("backbone."):
        return "DINO"
    order = sincos_order(tower["pos_embed"])
    if order:
        return "MoCo v3" if order == "rows" else "MAE or MILAN"
    if "head.weight" in tower:
        return "DeiT" if wrapper == "model" else "timm classifier"
    return "timm"


def _guess_beit(layout: str, prefix: str, tower: Mapping[str, Tensor]) -> str:
    if prefix == "encoder.":
        return "CAE" if "pos_embed" in tower else "SimMIM"
    if prefix == "data2vec_vision.":
        return "data2vec"
    if {"fc_norm.weight", "pooler.layernorm.weight", "ln2.weight"} & tower.keys():
        return "finetuned BEiT"
    lm_head = tower.get("lm_head.weight")
    if layout == "beit" and lm_head is not None and lm_head.shape[0] == lm_head.shape[-1]:
        return "data2vec"  # regresses features of its own width; the others choose among tokens
    return "CAE" if "pos_embed" in tower else "BEiT"


def _has_square_table(tower: Mapping[str, Tensor]) -> bool:
    rows = tower["pos_embed"].shape[1] if tower["pos_embed"].ndim == 3 else 0
    return round(rows**0.5) ** 2 == rows


def sincos_order(pos_embed: Tensor) -> str | None:
    """What the first half of a sine-cosine table tells: 'columns' (MAE, MILAN) or 'rows' (MoCo v3).

    Args:
        pos_embed: (1, 1+L, D) float, class token first.

    Returns:
        None for any other table, e.g. a learned one.
    """
    if pos_embed.ndim != 3 or pos_embed.shape[2] % 4:
        return None
    side = round(max(pos_embed.shape[1] - 1, 0) ** 0.5)
    if side**2 != pos_embed.shape[1] - 1 or not side:
        return None
    dims = pos_embed.shape[2]
    table = sincos_pos_embed(dims, (side, side), with_cls_token=True)
    for order, expected in (("columns", table), ("rows", table.roll(dims // 2, dims=2))):
        if torch.allclose(pos_embed.float(), expected, atol=2e-3):
            return order
    return None


def stats_name(mean: object, std: object) -> str | None:
    """The key of `STATS` with this mean and standard deviation of R, G, B in 0-1, if any."""
    try:
        given = torch.tensor([list(mean), list(std)], dtype=torch.float64)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    for name, values in STATS.items():
        expected = torch.tensor(values, dtype=torch.float64)
        if given.shape == expected.shape and torch.allclose(given, expected, atol=1e-3):
            return name
    return None
