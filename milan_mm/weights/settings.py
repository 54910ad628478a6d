"""Infer `PlainViT`'s arguments from the tensors; record why wherever a value is assumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.finding import Found
from milan_mm.weights.position_rows import square_side
from milan_mm.weights.renaming import Renamed
from milan_mm.weights.stated.facts import HubFacts
from milan_mm.weights.systems import System

# Heads by (width, blocks). No tensor shows them, except where a layout's table says so.
HEADS = {(a["embed_dims"], a["num_layers"]): a["num_heads"] for a in ARCHS.values()} | {
    (1536, 40): 24,  # ViT-g of DINOv2
    (4096, 40): 32,  # ViT-7B of DINOv3
    (2688, 24): 21,  # ViT-2B of Web-SSL, then its 3B, 5B and 7B
    (3072, 26): 24,
    (3584, 32): 28,
    (4096, 32): 32,
}
MAX_ROPE_BASE = 1e6
FIRST_BIAS_TABLE = "layers.0.attn.relative_position_bias_table"


@dataclass(frozen=True)
class Settings:
    """What an encoder needs.

    Attributes:
        values: Keyword arguments of `PlainViT`. `arch` has no `num_heads` where they are unknown,
            and there is no `img_size` where the position table is not of a square grid.
        assumed: Name -> sentence, where the file does not settle the value.
    """

    values: dict[str, Any]
    assumed: dict[str, str]


def infer_settings(
    found: Found, renamed: Renamed, facts: HubFacts, system: System, num_heads: int | None
) -> Settings:
    """Derive the keyword arguments of `PlainViT`.

    Args:
        facts: Of a config.
        system: That the file is from, or taken for.
        num_heads: Given by the user.

    Raises:
        UserError: When file, config and user contradict each other about heads, or tensors are of
            no model.
    """
    tensors = renamed.tensors
    width, _, _, patch_size = tensors["patch_embed.projection.weight"].shape
    num_layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    heads, heads_note = _num_heads(found, facts, system, num_heads, width, num_layers)
    grid = _bias_grid(found, renamed)
    img_size, size_note = _img_size(tensors, grid, patch_size, facts)
    norm_eps, eps_note = _norm_eps(found, tensors, facts)
    act, act_note = _act(found, facts, system)
    rope, rope_note = _rope(found, tensors, facts, system)
    hidden, gated = _mlp(tensors)
    if facts.act and gated != (facts.act == "SwiGLU"):
        shape = "gates for every value" if gated else "no gates"
        raise UserError(
            f"{found.path}: {facts.named} says act={facts.act}, and the MLPs in the file have "
            f"{shape}: they do not belong together"
        )
    arch = dict(embed_dims=width, num_layers=num_layers)
    num_registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    values: dict[str, Any] = dict(
        arch=arch if heads is None else arch | dict(num_heads=heads),
        img_size=img_size,
        patch_size=patch_size,
        with_cls_token="cls_token" in tensors,
        final_norm="ln1.weight" in tensors,
        norm_eps=norm_eps,
        act="SwiGLU" if gated else act,
        patch_bias="patch_embed.projection.bias" in tensors,
        pre_norm="pre_norm.weight" in tensors,
        layer_scale=found.table.layer_scale if "layers.0.gamma_1" in tensors else None,
        with_pos_embed="pos_embed" in tensors,
        pos_resize=facts.pos_resize or system.resize_rule(num_registers),
        rel_pos_bias_grid=grid,
        num_registers=num_registers,
        **rope,
        mlp_dims=None if hidden == 4 * width else hidden,
        norm=facts.norm or found.table.norm,
        patch_norm="patch_embed.norm.weight" in tensors,
        qk_norm="layers.0.attn.q_norm.weight" in tensors,
        attn_norm="layers.0.attn.norm.weight" in tensors,
        mlp_norm="layers.0.ffn.norm.weight" in tensors,
        **_pool(tensors, facts.pool_heads or system.pool_heads or heads or 0, width),
    )
    if img_size is None:
        del values["img_size"]
    notes = dict(
        num_heads=heads_note,
        img_size=size_note,
        norm_eps=eps_note,
        act="" if gated else act_note,
        rope_base=rope_note,
    )
    return Settings(values, {name: note for name, note in notes.items() if note})


def dense_of_tables(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Windows and grid of a detector, as keyword arguments of `PlainViT`, from its relative tables.

    Those of a side of n patches have 2n-1 rows. Blocks with windows have smaller ones than blocks
    that attend to the whole image, which every detector of this kind has.

    Raises:
        UserError: When they are of more than two sizes, or windows are not square.
    """
    sides = {
        int(name.split(".")[1]): tuple(
            (len(tensors[f"{name.removesuffix('h')}{axis}"]) + 1) // 2 for axis in "hw"
        )
        for name in tensors
        if name.endswith(".attn.rel_pos_h")
    }
    if not sides:
        return {}
    kinds = sorted(set(sides.values()))
    if len(kinds) > 2 or (len(kinds) == 2 and len(set(kinds[0])) > 1):
        raise UserError(
            f"{path}: its relative positions are for grids of {kinds} patches; windows of one "
            "size, square, and one grid for the other blocks are supported"
        )
    wide = kinds[-1]
    dense: dict[str, Any] = dict(rel_pos_grid=wide)
    if len(kinds) == 2:
        blocks = tuple(i for i, side in sorted(sides.items()) if side == wide)
        dense |= dict(window_size=kinds[0][0], global_layers=blocks)
    return dense


def _num_heads(
    found: Found,
    facts: HubFacts,
    system: System,
    given: int | None,
    width: int,
    num_layers: int,
) -> tuple[int | None, str]:
    """Heads as the file states them, else as given, else as usual for the architecture."""
    stated: dict[int, str] = {} if facts.num_heads is None else {facts.num_heads: facts.named}
    for spelling, dim in found.table.heads:
        for block in range(num_layers if "#" in spelling else 1):
            (name,) = found.names([spelling], block)
            if name in found.state_dict:
                stated.setdefault(found.state_dict[name].shape[dim], f"'{name}'")
    periods = _periods(found)
    if periods is not None:
        stated.setdefault(width // (4 * len(periods)), f"'{found.prefix}rope_embed.periods'")
    if given is not None:
        stated.setdefault(given, "--num-heads")
    if len(stated) > 1:
        parts = " and ".join(f"{source} says {number}" for number, source in stated.items())
        raise UserError(f"{found.path}: {parts} attention heads")
    size = (width, num_layers)
    usual = system.heads.get(size, HEADS.get(size))
    heads: int | None
    if stated:
        heads = next(iter(stated))
    elif isinstance(usual, tuple):
        numbers = " and with ".join(map(str, usual))
        raise UserError(
            f"{found.path}: ViTs of {num_layers} blocks of width {width} were published with "
            f"{numbers} attention heads, and neither tensors nor a config say which: pass "
            "--num-heads"
        )
    else:
        heads = usual
    if heads is not None and (heads < 1 or width % heads):
        raise UserError(f"{found.path}: width {width} is not a multiple of {heads} heads")
    if stated or heads is None:
        return heads, ""
    return heads, (
        f"{heads} heads are usual for {num_layers} blocks of width {width} of {system.name}; the "
        "tensors do not show them"
    )


def _img_size(
    tensors: Mapping[str, Tensor], grid: tuple[int, int] | None, patch_size: int, facts: HubFacts
) -> tuple[int | None, str]:
    if "pos_embed" in tensors:
        side = square_side(tensors["pos_embed"].shape[1] - int("cls_token" in tensors))
        return side * patch_size or None, ""
    if grid:
        return grid[0] * patch_size, ""
    if facts.img_size is not None:
        return facts.img_size // patch_size * patch_size, ""
    side = 224 // patch_size  # rotary positions belong to no grid
    return side * patch_size, "rotary positions serve any size: 224 pixels stand for all"


def _bias_grid(found: Found, renamed: Renamed) -> tuple[int, int] | None:
    """(h, w) in patches of the relative position bias, if there is any.

    Raises:
        UserError: When the tables differ in size or are not of a square grid.
    """
    names = [n for n in renamed.tensors if n.endswith(".relative_position_bias_table")]
    if not names:
        return None
    with_cls_token = "cls_token" in renamed.tensors
    shape = renamed.tensors[names[0]].shape
    side = square_side(shape[0] - 3 * int(with_cls_token))
    for name in names:
        table = renamed.tensors[name]
        if side % 2 == 0 or table.shape != shape:
            raise UserError(
                f"{found.path}: '{renamed.theirs[name]}' is {tuple(table.shape)}, the model "
                f"needs (2n-1)^2{' + 3' if with_cls_token else ''} rows for a grid of n x n "
                "patches: the file is damaged or of another architecture"
            )
    return (side + 1) // 2, (side + 1) // 2


def _norm_eps(found: Found, tensors: Mapping[str, Tensor], facts: HubFacts) -> tuple[float, str]:
    if facts.norm_eps:
        return facts.norm_eps, ""
    if found.layout == "timm" and "pre_norm.weight" in tensors:
        return 1e-5, ""  # timm's export of CLIP
    usual = found.table.norm_eps
    if found.table.settled:
        return usual, ""
    return usual, f"epsilon {usual:g} is usual for this layout; the tensors do not show it"


def _act(found: Found, facts: HubFacts, system: System) -> tuple[str, str]:
    if facts.act:
        return facts.act, ""
    if system.act:
        unseen = f"{system.act}, as {system.name}'s own weights have; the tensors do not show it"
        return system.act, system.act_note or ("" if found.table.settled else unseen)
    usual = found.table.act
    if found.layout == "timm" and "cls_token" not in found.tower:
        return usual, (
            f"{usual}, of most ViTs without class token; some of SigLIP's have GELUTanh, which the "
            "tensors do not show"
        )
    if found.table.settled:
        return usual, ""
    return usual, f"{usual} is usual for this layout; the tensors do not show it"


def _mlp(tensors: Mapping[str, Tensor]) -> tuple[int, bool]:
    """Width of the MLPs inside, and whether they are SwiGLUs: the first layer is twice as wide."""
    hidden = tensors["layers.0.ffn.layers.1.weight"].shape[1]
    return hidden, len(tensors["layers.0.ffn.layers.0.0.weight"]) == 2 * hidden


def _pool(tensors: Mapping[str, Tensor], heads: int, width: int) -> dict[str, int | None]:
    """Of an attention pooling, where there is one."""
    if "attn_pool.latent" not in tensors:
        return dict(pool_heads=0, pool_dims=None)
    dims = len(tensors["attn_pool.mlp.fc1.weight"])
    return dict(pool_heads=heads, pool_dims=None if dims == 4 * width else dims)


def _rope(
    found: Found, tensors: Mapping[str, Tensor], facts: HubFacts, system: System
) -> tuple[dict[str, Any], str]:
    """Options of the rotary positions, and why the base is assumed."""
    rule = system.rope
    if rule is None:
        base, note = _rope_base(found, tensors, facts)
        kind, grid = facts.rope_kind or "dinov3", facts.rope_grid
        return dict(rope_base=base, rope_kind=kind if base else "dinov3", rope_grid=grid), note
    kind = rule.kind
    if kind == "pe" and "cls_token" not in tensors:
        kind = "pe-patches"
    base = facts.rope_base or rule.base
    grid = rule.grid and (facts.rope_grid or rule.grid)
    return dict(rope_base=base, rope_kind=facts.rope_kind or kind, rope_grid=grid), ""


def _rope_base(
    found: Found, tensors: Mapping[str, Tensor], facts: HubFacts
) -> tuple[float | None, str]:
    """Of what a config says, or DINOv3's where there are registers and no table."""
    if facts.rope_kind is not None:
        return facts.rope_base, ""
    if "pos_embed" in tensors or FIRST_BIAS_TABLE in tensors:
        return None, ""
    if facts.rope_base is not None or "register_tokens" not in tensors:
        return facts.rope_base, ""
    periods = _periods(found)
    if periods is None or len(periods) < 2:
        return 100.0, "base 100 of the rotary positions, that of DINOv3's releases"
    # base ** (2i / (d/2)) for i < d/4: the last one gives the base
    shares = torch.arange(len(periods), dtype=torch.float64) / len(periods)
    base = periods[-1].abs().double() ** (1 / shares[-1])
    if not torch.allclose(base**shares, periods.double(), rtol=0.02) or base > MAX_ROPE_BASE:
        raise UserError(
            f"{found.path}: '{found.prefix}rope_embed.periods' are not the periods of rotary "
            "positions: the file is damaged"
        )
    return round(base.item(), 2), ""


def _periods(found: Found) -> Tensor | None:
    """DINOv3's own files hold the periods of the rotary positions, one for four channels."""
    periods = found.tower.get("rope_embed.periods")
    is_row = isinstance(periods, Tensor) and periods.ndim == 1 and len(periods)
    return periods if is_row else None
