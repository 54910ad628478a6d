"""From tensors to the keyword arguments of `PlainViT`, with a sentence where a value is assumed."""

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.finding import Found
from milan_mm.weights.hub import HubFacts
from milan_mm.weights.layout import Layout
from milan_mm.weights.position_rows import square_side
from milan_mm.weights.systems import SYSTEMS

# Heads by (width, blocks). No tensor tells them, except where a layout's table says so.
HEADS = {(a["embed_dims"], a["num_layers"]): a["num_heads"] for a in ARCHS.values()} | {
    (1280, 32): 16,  # ViT-H
    (1408, 40): 16,  # ViT-g
}
MAX_ROPE_BASE = 1e6


def fill_settings(encoder: Encoder, found: Found, facts: HubFacts, num_heads: int | None) -> None:
    """Derive the keyword arguments of `PlainViT`."""
    tensors, path = encoder.state_dict, encoder.source
    weight = tensors["patch_embed.projection.weight"]
    width, patch_size = weight.shape[0], weight.shape[-1]
    num_layers = len({n.split(".")[1] for n in tensors if n.startswith("layers.")})
    settings = encoder.settings
    settings["arch"] = arch = dict(embed_dims=width, num_layers=num_layers)
    heads = _num_heads(encoder, found, facts, num_heads, width, num_layers)
    if heads is not None:
        if heads < 1 or width % heads:
            raise UserError(f"{path}: width {width} is not a multiple of {heads} heads")
        arch["num_heads"] = heads
    with_cls_token = "cls_token" in tensors
    side = 0
    grid = _bias_grid(encoder, with_cls_token)
    if "pos_embed" in tensors:
        side = square_side(tensors["pos_embed"].shape[1] - int(with_cls_token))
    elif grid:
        side = grid[0]
    else:  # rotary positions belong to no grid
        side = 224 // patch_size
        encoder.assumed["img_size"] = "rotary positions serve any size: 224 pixels stand for all"
    if side:
        settings["img_size"] = side * patch_size
    settings |= dict(
        patch_size=patch_size,
        with_cls_token=with_cls_token,
        final_norm="ln1.weight" in tensors,
        norm_eps=facts.norm_eps or _norm_eps(encoder, found.table),
        act=facts.act or _act(encoder, found),
        patch_bias="patch_embed.projection.bias" in tensors,
        pre_norm="pre_norm.weight" in tensors,
        layer_scale=found.table.layer_scale if "layers.0.gamma_1" in tensors else None,
        with_pos_embed="pos_embed" in tensors,
        rel_pos_bias_grid=grid,
        num_registers=tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0,
        rope_base=_rope_base(encoder, found, facts),
    )
    for name, value, told in (
        ("embed_dims", width, facts.embed_dims),
        ("num_layers", num_layers, facts.num_layers),
        ("patch_size", patch_size, facts.patch_size),
        ("num_registers", settings["num_registers"], facts.num_registers),
    ):
        if told is not None and told != value:
            raise UserError(
                f"{path}: config.json says {name}={told}, the tensors {value}: the two files do "
                "not belong together"
            )
    usual = found.table.num_registers
    if facts.num_registers is None and usual and settings["num_registers"] != usual:
        raise UserError(
            f"{path}: '{encoder.theirs['register_tokens']}' holds {settings['num_registers']} "
            f"registers, {encoder.system} has {usual}: the file is damaged or lacks its config.json"
        )


def _num_heads(
    encoder: Encoder,
    found: Found,
    facts: HubFacts,
    given: int | None,
    width: int,
    num_layers: int,
) -> int | None:
    """Heads as the file tells them, else as given, else as usual for the architecture.

    Raises:
        UserError: When the file contradicts itself or what is given.
    """
    told: dict[int, str] = {} if facts.num_heads is None else {facts.num_heads: "config.json"}
    for spelling, dim in found.table.heads:
        for i in range(num_layers if "#" in spelling else 1):
            name = found.prefix + spelling.replace("#", str(i))
            if name in found.state_dict:
                told.setdefault(found.state_dict[name].shape[dim], f"'{name}'")
    periods = found.tower.get("rope_embed.periods")
    if isinstance(periods, Tensor) and periods.ndim == 1 and len(periods):
        told.setdefault(width // (4 * len(periods)), f"'{found.prefix}rope_embed.periods'")
    if given is not None:
        told.setdefault(given, "--num-heads")
    if len(told) > 1:
        parts = " and ".join(f"{source} tells {number}" for number, source in told.items())
        raise UserError(f"{encoder.source}: {parts} attention heads")
    if told:
        return next(iter(told))
    size = (width, num_layers)
    usual = SYSTEMS[encoder.system].heads.get(size, HEADS.get(size))
    if usual is not None:
        encoder.assumed["num_heads"] = (
            f"{usual} heads are usual for {num_layers} blocks of width {width} of "
            f"{encoder.system}; no tensor tells them"
        )
    return usual


def _bias_grid(encoder: Encoder, with_cls_token: bool) -> tuple[int, int] | None:
    """(h, w) in patches of the relative position bias, if there is any.

    Raises:
        UserError: When the tables differ in size or are of no square grid.
    """
    names = [n for n in encoder.state_dict if n.endswith(".relative_position_bias_table")]
    if not names:
        return None
    first = encoder.state_dict[names[0]]
    for name in names:
        table = encoder.state_dict[name]
        side = square_side(table.shape[0] - 3 * int(with_cls_token))
        if side % 2 == 0 or table.shape != first.shape:
            raise UserError(
                f"{encoder.source}: '{encoder.theirs[name]}' is {tuple(table.shape)}, the model "
                f"needs (2n-1)^2{' + 3' if with_cls_token else ''} rows for a grid of n x n "
                "patches: the file is damaged or of another architecture"
            )
    side = (square_side(first.shape[0] - 3 * int(with_cls_token)) + 1) // 2
    return side, side


def _norm_eps(encoder: Encoder, table: Layout) -> float:
    if encoder.layout == "timm" and "pre_norm.weight" in encoder.state_dict:
        return 1e-5  # timm's export of CLIP
    if not table.told:
        encoder.assumed["norm_eps"] = (
            f"epsilon {table.norm_eps:g} is usual for this layout; no tensor tells it"
        )
    return table.norm_eps


def _act(encoder: Encoder, found: Found) -> str:
    system = SYSTEMS[encoder.system]
    if system.act_note:
        encoder.assumed["act"] = system.act_note
    if system.act:
        return system.act
    if not found.table.told:
        encoder.assumed["act"] = f"{found.table.act} is usual for this layout; no tensor tells it"
    return found.table.act


def _rope_base(encoder: Encoder, found: Found, facts: HubFacts) -> float | None:
    if "pos_embed" in encoder.state_dict or "register_tokens" not in encoder.state_dict:
        return None
    if any(n.endswith(".relative_position_bias_table") for n in encoder.state_dict):
        return None
    if facts.rope_base is not None:
        return facts.rope_base
    periods = found.tower.get("rope_embed.periods")
    if isinstance(periods, Tensor) and periods.ndim == 1 and len(periods) > 1:
        # base ** (2i / (d/2)) for i < d/4: the last one tells the base
        shares = torch.arange(len(periods), dtype=torch.float64) / len(periods)
        base = periods[-1].abs().double() ** (1 / shares[-1])
        if not torch.allclose(base**shares, periods.double(), rtol=0.02) or base > MAX_ROPE_BASE:
            raise UserError(
                f"{encoder.source}: '{found.prefix}rope_embed.periods' are no periods of rotary "
                "positions: the file is damaged"
            )
        return round(base.item(), 2)
    encoder.assumed["rope_base"] = "base 100 of the rotary positions, that of DINOv3's releases"
    return 100.0
