"""The rows of a position table, and the key biases, as `PlainViT` has them."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.positions import sincos_pos_embed
from milan_mm.weights.finding import Found
from milan_mm.weights.renaming import Renamed


def fit_positions(found: Found, renamed: Renamed, path: str | Path) -> None:
    """Bring the rows of a position table to [1+]L: class token first, nothing else.

    Raises:
        UserError: When the rows cannot be understood.
    """
    tensors = renamed.tensors
    if "pos_embed" not in tensors:
        return
    table, name = tensors["pos_embed"], renamed.theirs["pos_embed"]
    distilled = [n for n in renamed.dropped if n.endswith(("dist_token", "distillation_token"))]
    if distilled and table.shape[1] > 2:
        table = torch.cat([table[:, :1], table[:, 2:]], dim=1)
        renamed.dropped[f"{name}[:, 1]"] = "position of the distillation token"
    rows = table.shape[1]
    if "cls_token" not in tensors:
        if not square_side(rows) and square_side(rows - 1):
            (spelling,) = found.table.tensors()["cls_token"]
            raise UserError(f"{path} lacks '{found.prefix}{spelling}': '{name}' has a row for it")
        # DeiT III has no row for it; timm's models without class token normalise after pooling
        if found.layout == "timm" and "layers.0.gamma_1" in tensors and "ln2.weight" not in tensors:
            raise UserError(f"{path} lacks '{found.prefix}cls_token'")
    elif not square_side(rows - 1):
        registers = tensors.get("register_tokens")
        extra = 0 if registers is None else registers.shape[1]
        if square_side(rows) and _gives_class_no_position(found, tensors):
            table = F.pad(table, (0, 0, 1, 0))
            renamed.added["pos_embed"] = "a zero row: the source's class token has no position"
        elif registers is not None and square_side(rows - 1 - extra):
            tensors["register_tokens"] = registers + table[:, 1 : 1 + extra]
            table = torch.cat([table[:, :1], table[:, 1 + extra :]], dim=1)
            renamed.dropped[f"{name}[:, 1:{1 + extra}]"] = "added to the register tokens"
        elif found.layout in ("timm", "hf-vit") and not distilled and square_side(rows - 2):
            token = next(n for n in found.table.extras if "dist" in n and n.endswith("_token"))
            raise UserError(f"{path} lacks '{found.prefix}{token}': '{name}' has a row for it")
        elif square_side(rows):
            raise UserError(f"{path}: '{name}' has {rows} rows, none of them for the class token")
    tensors["pos_embed"] = table.contiguous()


def _gives_class_no_position(found: Found, tensors: dict[str, Tensor]) -> bool:
    """Whether it is one of timm's (DeiT III, DINOv2), which have layer scale.

    DINOv2's own files, with a mask token, do have a row; elsewhere a missing row is a loss.
    """
    is_timms = found.layout == "timm" and "mask_token" not in found.tower
    return is_timms and "layers.0.gamma_1" in tensors


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


def square_side(num_patches: int) -> int:
    """Side of a square grid of so many patches, or 0."""
    side = round(max(num_patches, 0) ** 0.5)
    return side if side**2 == num_patches else 0


def mask_key_bias(found: Found, renamed: Renamed) -> None:
    """DINOv3 multiplies the key bias by zero in every forward pass; here it is zero."""
    for i in range(renamed.num_layers):
        if f"blocks.{i}.attn.qkv.bias_mask" in found.tower and found.layout == "dinov3":
            q, _, v = renamed.tensors[f"layers.{i}.attn.qkv.bias"].chunk(3)
            renamed.tensors[f"layers.{i}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
