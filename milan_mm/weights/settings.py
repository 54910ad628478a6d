"""Infer `PlainViT`'s arguments from the tensors; record why wherever a value is assumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.facts import HubFacts
from milan_mm.weights.finding import Found
from milan_mm.weights.position_rows import square_side
from milan_mm.weights.renaming import Renamed
from milan_mm.weights.systems import PARTS, System

# Heads by (width, blocks). No tensor shows them, except where a layout's table says so.
HEADS = {(a["embed_dims"], a["num_layers"]): a["num_heads"] for a in ARCHS.values()} | {
    (1280, 32): 16,  # ViT-H
    (1408, 40): 16,  # ViT-g
}
MAX_ROPE_BASE = 1e6
_TABLE = "layers.0.attn.relative_position_bias_table"


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
        UserError: When file, config and user contradict each other.
    """
    tensors = renamed.tensors
    width, _, _, patch_size = tensors["patch_embed.projection.weight"].shape
    num_layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    heads, heads_note = _num_heads(found, facts, system, num_heads, width, num_layers)
    grid = _bias_grid(found, renamed)
    img_size, size_note = _img_size(tensors, grid, patch_size, facts)
    norm_eps, eps_note = _norm_eps(found, tensors, facts)
    act, act_note = _act(found, facts, system)
    rope_base, rope_note = _rope_base(found, tensors, facts)
    arch = dict(embed_dims=width, num_layers=num_layers)
    num_registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    values: dict[str, Any] = dict(
        arch=arch if heads is None else arch | dict(num_heads=heads),
        img_size=img_size,
        patch_size=patch_size,
        with_cls_token="cls_token" in tensors,
        final_norm="ln1.weight" in tensors,
        norm_eps=norm_eps,
        act=act,
        patch_bias="patch_embed.projection.bias" in tensors,
        pre_norm="pre_norm.weight" in tensors,
        layer_scale=found.table.layer_scale if "layers.0.gamma_1" in tensors else None,
        with_pos_embed="pos_embed" in tensors,
        pos_resize=facts.pos_resize or system.resize_rule(num_registers),
        rel_pos_bias_grid=grid,
        num_registers=num_registers,
        rope_base=rope_base,
    )
    if img_size is None:
        del values["img_size"]
    notes = dict(
        num_heads=heads_note,
        img_size=size_note,
        norm_eps=eps_note,
        act=act_note,
        rope_base=rope_note,
    )
    _check_config(found, renamed, facts, system, arch | values)
    return Settings(values, {name: note for name, note in notes.items() if note})


def check_system(path: str, settings: Settings, system: System) -> None:
    """Refuse a system that the user named and whose encoders have other parts than the file.

    Raises:
        UserError: Naming the parts.
    """
    if system.parts is None:
        return
    values = settings.values
    options = dict(
        table="with_pos_embed",
        bias="rel_pos_bias_grid",
        rope="rope_base",
        scale="layer_scale",
        registers="num_registers",
        pre_norm="pre_norm",
    )
    present = {part for part, option in options.items() if values[option]}
    lacking = [PARTS[part] for part in system.parts if part not in present]
    surplus = [PARTS[part] for part in present.difference(system.parts, system.may_have)]
    if lacking or surplus:
        parts = [f"the file has no {_bare(name)}, which {system.name} has" for name in lacking]
        parts += [f"the file has {name}, which {system.name} does not have" for name in surplus]
        raise UserError(
            f"{path}: --system '{system.name}' contradicts the tensors: {'; '.join(parts)}"
        )


def _bare(part: str) -> str:
    return part.removeprefix("a ")


def check_img_size(
    found: Found,
    renamed: Renamed,
    settings: Settings,
    facts: HubFacts,
    guessed: System | None,
) -> None:
    """Refuse patches and positions that do not belong together, where their size is known.

    A patch embedding of 8 pixels is as whole as one of 16, and so is a table for any square grid.
    Only their product can be wrong: the side of the images of the pretraining.

    Args:
        facts: Of a config.json.
        guessed: The system that the file is taken for; None where the user or a config named it,
            since a system that is named may have any size.

    Raises:
        UserError: When the size differs from that in a config.json or in CLIP's own file, or is
            none of those that the system has published.
    """
    values = settings.values
    tables = [renamed.theirs[n] for n in ("pos_embed", _TABLE) if n in renamed.theirs]
    if "img_size" not in values or not tables:
        return
    implied, patch, positions = values["img_size"], values["patch_size"], tables[0]
    side = implied // patch
    sizes = (
        f"{found.path}: '{renamed.theirs['patch_embed.projection.weight']}' has patches of "
        f"{patch} pixels and '{positions}' a grid of {side}x{side}, together images of {implied} "
        "pixels"
    )
    if facts.img_size is not None:  # the config has the patch as well; images may be a bit larger
        if facts.img_size // patch * patch != implied:
            raise UserError(
                f"{sizes}, but {facts.named} says image_size={facts.img_size}: they do not belong "
                "together"
            )
        return
    resolution = _resolution(found)
    if resolution not in (None, implied):
        raise UserError(f"{sizes}, but 'input_resolution' is {resolution}: the file is damaged")
    is_usual = (values["arch"]["embed_dims"], values["arch"]["num_layers"]) in HEADS
    if guessed and guessed.sizes and is_usual and implied not in guessed.sizes:
        known = " and ".join(map(str, guessed.sizes))
        raise UserError(
            f"{sizes}, but {guessed.name}, which the file is taken for, published ViTs for {known} "
            "pixels only: the file is damaged or of another system; if it was trained so, say "
            f"where it is from, e.g. --system '{guessed.name}'"
        )


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
    if isinstance(usual, tuple) and not stated:
        numbers = " and with ".join(map(str, usual))
        raise UserError(
            f"{found.path}: ViTs of {num_layers} blocks of width {width} were published with "
            f"{numbers} attention heads, and neither tensors nor a config say which: pass "
            "--num-heads"
        )
    heads = next(iter(stated), usual)
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
        return system.act, system.act_note
    usual = found.table.act
    if found.layout == "timm" and "cls_token" not in found.tower:
        return usual, (
            f"{usual}, of most ViTs without class token; some of SigLIP's have GELUTanh, which the "
            "tensors do not show"
        )
    if found.table.settled:
        return usual, ""
    return usual, f"{usual} is usual for this layout; the tensors do not show it"


def _rope_base(
    found: Found, tensors: Mapping[str, Tensor], facts: HubFacts
) -> tuple[float | None, str]:
    """Where no table is, of registers or of what a config says: DINOv3's rotary positions."""
    if "pos_embed" in tensors or _TABLE in tensors:
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


def _resolution(found: Found) -> int | None:
    """What OpenAI's CLIP files say of their images."""
    value = found.state_dict.get("input_resolution")
    if not isinstance(value, Tensor) or value.device.type != "cpu":
        return None
    return int(value) if value.dtype == torch.int64 and value.shape == () else None


def _check_config(
    found: Found, renamed: Renamed, facts: HubFacts, system: System, values: Mapping[str, Any]
) -> None:
    """Refuse a config that contradicts the tensors, and an unusual number of registers."""
    for name in ("embed_dims", "num_layers", "patch_size", "num_registers"):
        stated = getattr(facts, name)
        if stated is not None and stated != values[name]:
            raise UserError(
                f"{found.path}: {facts.named} says {name}={stated}, the tensors {values[name]}: "
                "they do not belong together"
            )
    usual, registers = found.table.num_registers, values["num_registers"]
    if facts.num_registers is None and usual and registers != usual:
        raise UserError(
            f"{found.path}: '{renamed.theirs['register_tokens']}' holds {registers} registers, "
            f"{system.name} has {usual}: the file is damaged or its config.json is missing"
        )
