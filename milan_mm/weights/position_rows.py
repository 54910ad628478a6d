"""Position tables: the order of their channels, and their rows as `PlainViT` has them."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.positions import sincos_pos_embed
from milan_mm.weights.finding import Found
from milan_mm.weights.renaming import Renamed


def fit_positions(found: Found, renamed: Renamed) -> Renamed:
    """Bring the rows of a position table to [1+]L: class token first, nothing else.

    Raises:
        UserError: When the rows cannot be understood.
    """
    if "pos_embed" not in renamed.tensors:
        return renamed
    table, name = renamed.tensors["pos_embed"], renamed.theirs["pos_embed"]
    registers = renamed.tensors.get("register_tokens")
    changed: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    added: dict[str, str] = {}
    rows = table.shape[1]
    if "dist" in renamed.theirs.get("register_tokens", "") and not square_side(rows - 2):
        raise UserError(
            f"{found.path}: '{name}' has {rows} rows, not those of a square grid and of the class "
            "and distillation tokens: the file is damaged"
        )
    if _is_vitdets(renamed) and square_side(rows - 1):
        table = table[:, 1:]
        dropped[f"{name}[:, :1]"] = "of a class token, which the detector does without"
    elif "cls_token" not in renamed.tensors:
        _refuse_lost_class_token(found, renamed, rows)
    elif not square_side(rows - 1):
        extra = 0 if registers is None else registers.shape[1]
        if square_side(rows) and _gives_class_no_position(found, renamed):
            table = F.pad(table, (0, 0, 1, 0))
            added["pos_embed"] = "a zero row: the source's class token has no position"
        elif registers is not None and square_side(rows - 1 - extra):
            changed["register_tokens"] = registers + table[:, 1 : 1 + extra]
            table = torch.cat([table[:, :1], table[:, 1 + extra :]], dim=1)
            dropped[f"{name}[:, 1:{1 + extra}]"] = "added to the register tokens"
        elif registers is None and square_side(rows - 2) and (token := _distillation_token(found)):
            raise UserError(
                f"{found.path} is missing '{found.prefix}{token}': '{name}' has a row for it"
            )
        elif square_side(rows):
            raise UserError(
                f"{found.path}: '{name}' has {rows} rows, none of them for the class token"
            )
    changed["pos_embed"] = table.contiguous()
    return replace(
        renamed,
        tensors=renamed.tensors | changed,
        dropped=renamed.dropped | dropped,
        added=renamed.added | added,
    )


def mask_key_bias(found: Found, renamed: Renamed) -> Renamed:
    """DINOv3 multiplies the key bias by zero in every forward pass; here it is zero."""
    if found.layout != "dinov3":
        return renamed
    changed = {}
    for ours, theirs in renamed.theirs.items():
        if ours.endswith(".attn.qkv.bias") and f"{theirs}_mask" in found.state_dict:
            q, k, v = renamed.tensors[ours].chunk(3)
            changed[ours] = torch.cat([q, torch.zeros_like(k), v])
    return replace(renamed, tensors=renamed.tensors | changed)


def copy_first_norm(found: Found, renamed: Renamed) -> Renamed:
    """mmpretrain's DeiT III normalises by `ln1` before the MLP too, so it never trains `ln2`.

    Files that mmpretrain converted from DeiT III's own do have a trained `ln2`, which counts.
    """
    if found.layout != "mmpretrain" or "a zero row" not in renamed.added.get("pos_embed", ""):
        return renamed
    tensors = renamed.tensors
    second = [n for n in tensors if n.startswith("layers.") and ".ln2." in n]
    initial = [n for n in second if bool((tensors[n] == float(n.endswith(".weight"))).all())]
    if initial != second:
        return renamed
    copied = {name: tensors[name.replace(".ln2.", ".ln1.")].clone() for name in second}
    note = "copied from ln1, by which mmpretrain's DeiT3 normalises twice; its ln2 is untrained"
    return replace(
        renamed, tensors=tensors | copied, added=renamed.added | dict.fromkeys(copied, note)
    )


def sincos_order(pos_embed: Tensor) -> str | None:
    """Order of the halves of a sine-cosine table: 'columns' (MAE, MILAN) or 'rows' (MoCo v3) first.

    Args:
        pos_embed: (1, 1+L, D) float, class token first.

    Returns:
        None for any other table, e.g. a learned one.
    """
    if pos_embed.ndim != 3 or pos_embed.shape[2] % 4:
        return None
    side, dims = square_side(pos_embed.shape[1] - 1), pos_embed.shape[2]
    if not side:
        return None
    table = sincos_pos_embed(dims, (side, side), with_cls_token=True)
    for order, expected in (("columns", table), ("rows", table.roll(dims // 2, dims=2))):
        if torch.allclose(pos_embed.float(), expected, atol=2e-3):
            return order
    return None


def square_side(num_patches: int) -> int:
    """Side of a square grid of so many patches, or 0."""
    side = round(max(num_patches, 0) ** 0.5)
    return side if side**2 == num_patches else 0


def _is_vitdets(renamed: Renamed) -> bool:
    """Whether it is ViTDet's, which keeps the class token's row of the pretraining's table."""
    tensors = renamed.tensors
    return "cls_token" not in tensors and "layers.0.attn.rel_pos_h" in tensors


def _refuse_lost_class_token(found: Found, renamed: Renamed, rows: int) -> None:
    """Refuse a file whose class token is missing, not left out by design."""
    if "cls_token" not in found.table.tensors:
        return
    (spelling,) = found.table.tensors["cls_token"]
    token = f"{found.prefix}{spelling}"
    is_distilled = "dist" in renamed.theirs.get("register_tokens", "")
    if is_distilled or (not square_side(rows) and square_side(rows - 1)):
        name = renamed.theirs["pos_embed"]
        raise UserError(f"{found.path} is missing '{token}': '{name}' has a row for it")
    # DeiT III has no row for it; timm's models without class token normalise after pooling, PE's G
    # before its blocks
    scaled = "layers.0.gamma_1" in renamed.tensors
    without = {"ln2.weight", "pre_norm.weight"} & renamed.tensors.keys()
    if found.layout == "timm" and scaled and not without:
        raise UserError(f"{found.path} is missing '{token}'")


def _distillation_token(found: Found) -> str | None:
    """Its name in this layout, if there is one."""
    spellings = found.table.tensors.get("register_tokens", ())
    return next((name for name in spellings if "dist" in name), None)


def _gives_class_no_position(found: Found, renamed: Renamed) -> bool:
    """Whether it is of timm (DeiT III, DINOv2) or mmpretrain's DeiT III, which have layer scale.

    DINOv2's own files, with a mask token, do have a row; elsewhere a missing row is a loss.
    """
    known = found.layout in ("timm", "mmpretrain") and "mask_token" not in found.tower
    return known and "layers.0.gamma_1" in renamed.tensors
