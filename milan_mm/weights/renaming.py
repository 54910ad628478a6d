"""From a file's names and shapes to those of `PlainViT`; every tensor is accounted for."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mode
from typing import Any

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.finding import Found, belongs
from milan_mm.weights.layout import BIAS_TABLE, Change, Layout, matches

MAX_BLOCKS = 200
# Designs that `PlainViT` has no place for, told by their tensors.
UNSUPPORTED = {
    "*.mlp.w12.*": "a gated MLP (SwiGLU)",
    "*.mlp.w1.*": "a gated MLP (SwiGLU)",
    "*.mlp.weights_in.*": "a gated MLP (SwiGLU)",
    "*.mlp.gate_proj.*": "a gated MLP (SwiGLU)",
    "*.mlp.fc1_g.*": "a gated MLP (SwiGLU)",
    "*.attn.q_norm.*": "normalised queries and keys",
    "*.attn.inner_attn_ln.*": "a norm inside of the attention",
}
# Groups of tensors that are all there or all absent.
_GROUPS = (
    ("layers.#.gamma_1", "layers.#.gamma_2"),
    (BIAS_TABLE,),
    ("layers.#.attn.rel_pos_h", "layers.#.attn.rel_pos_w"),
    ("register_tokens",),
    ("pre_norm.weight", "pre_norm.bias"),
    ("ln2.weight", "ln2.bias"),
    ("pos_embed",),
)


@dataclass
class Renamed:
    """The encoder under the names of `PlainViT`.

    Attributes:
        tensors: By name here, float32, of the shapes of `PlainViT`.
        theirs: Name here -> name in the file.
        num_layers: Blocks.
        dropped: Name in the file -> why it is no part of the encoder.
        added: Name here -> what was made up, since the file has no such tensor.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)
    num_layers: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)


def rename(found: Found, path: str | Path, rotary: bool = False) -> Renamed:
    """Rename, fuse and transpose the tensors of an encoder.

    The position table keeps the rows that the file has; see `recognise`.

    Args:
        found: Where the encoder is.
        path: Of the file, for messages.
        rotary: It is known to have rotary positions, which leave no trace in a file.

    Raises:
        UserError: When a tensor is missing, unknown, of a wrong shape, or no numbers; it is named.
    """
    table, tower = found.table, found.tower
    _refuse_unsupported(tower, path)
    renamed = Renamed(num_layers=_count_blocks(found, path))
    used: set[str] = set()
    missing: dict[str, str] = {}
    width, patch_size = _measure(found, path)
    for stem, spellings in table.tensors().items():
        for ours, number in _expand(stem, renamed.num_layers):
            names = [_their_name(found, name, number) for name in spellings]
            there = [name for name in dict.fromkeys(names) if name in found.state_dict]
            if len(there) > 1:
                raise UserError(f"{path} holds both {' and '.join(there)}: keep one of them")
            if not there:
                missing[ours] = " or ".join(dict.fromkeys(names))
                continue
            used.add(there[0])
            shape = shape_of(stem, width, patch_size)
            renamed.tensors[ours] = _take(found, there[0], table.changes.get(stem), shape, path)
            renamed.theirs[ours] = there[0]
    for stem, parts in table.split_tensors().items():
        for ours, number in _expand(stem, renamed.num_layers):
            names = [_their_name(found, name, number) for name in parts]
            used |= set(names) & found.state_dict.keys()
            fused = _fuse(found, stem, names, width, path)
            if fused is None:
                missing[ours] = " or ".join(names)
                continue
            renamed.tensors[ours] = fused
            renamed.theirs[ours] = names[0]
            if names[1] not in found.state_dict:
                renamed.added[ours] = "zero key biases, which change no attention"
    if table.shared_table:
        used |= _share_table(found, renamed, missing, path)
    _settle_missing(found, renamed, missing, width, rotary, path)
    renamed.dropped = _account_for(found, used, path)
    return renamed


def shape_of(stem: str, width: int, patch_size: int) -> tuple[int | None, ...]:
    """Shape of a tensor of `PlainViT`; None where other options decide."""
    shapes: dict[str, tuple[int | None, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, None, width),
        "register_tokens": (1, None, width),
        "patch_embed.projection.weight": (width, 3, patch_size, patch_size),
        "layers.#.attn.qkv.weight": (3 * width, width),
        "layers.#.attn.qkv.bias": (3 * width,),
        "layers.#.attn.proj.weight": (width, width),
        "layers.#.ffn.layers.0.0.weight": (4 * width, width),
        "layers.#.ffn.layers.0.0.bias": (4 * width,),
        "layers.#.ffn.layers.1.weight": (width, 4 * width),
        BIAS_TABLE: (None, None),
        "layers.#.attn.rel_pos_h": (None, None),
        "layers.#.attn.rel_pos_w": (None, None),
    }
    return shapes.get(stem, (width,))


def _expand(stem: str, num_layers: int) -> list[tuple[str, int | None]]:
    if "#" not in stem:
        return [(stem, None)]
    return [(stem.replace("#", str(i)), i) for i in range(num_layers)]


def _their_name(found: Found, spelling: str, number: int | None) -> str:
    name = spelling if number is None else spelling.replace("#", str(number))
    return name.removeprefix("^") if name.startswith("^") else found.prefix + name


def _count_blocks(found: Found, path: str | Path) -> int:
    """One more than the highest number of a block, so that gaps are missed by name."""
    spelling = found.table.tensors()["layers.#.ln1.weight"][0]
    start = spelling.partition("#")[0]
    numbers = set()
    for name in found.tower:
        number, sep, _ = name.removeprefix(start).replace("/", ".").partition(".")
        if name.startswith(start) and sep and number.isdecimal():
            numbers.add(int(number))
    if not numbers:
        raise UserError(f"{path} holds no blocks '{found.prefix}{start}*'")
    if max(numbers) >= MAX_BLOCKS:
        raise UserError(f"{path} numbers a block {max(numbers)}: more than {MAX_BLOCKS} blocks")
    return max(numbers) + 1


def _measure(found: Found, path: str | Path) -> tuple[int, int]:
    """Width and patch size. The width is that of most of three tensors, so that one which is
    misshapen is the one to be named."""
    stems = ("patch_embed.projection.weight", "layers.#.ln1.weight", "layers.#.ln2.weight")
    widths = []
    for stem in stems:
        spelling = found.table.tensors()[stem][0]
        name = _their_name(found, spelling, 0 if "#" in stem else None)
        if name not in found.state_dict:
            raise UserError(f"{path} lacks '{name}'")
        patch = stem == stems[0]
        shape = (None, 3, None, None) if patch else (None,)
        tensor = _take(found, name, found.table.changes.get(stem), shape, path)
        widths.append(tensor.shape[0])
        if patch:
            patch_size = tensor.shape[3]
            if tensor.shape[2] != patch_size or not patch_size:
                raise UserError(
                    f"{path}: '{name}' is {tuple(found.state_dict[name].shape)}, the model needs "
                    "square patches: the file is damaged or of another architecture"
                )
    return mode(widths), patch_size


def _take(
    found: Found, name: str, change: Change | None, shape: tuple[int | None, ...], path: str | Path
) -> Tensor:
    """A tensor of the file, in float32 and the form here.

    Raises:
        UserError: When it is no tensor of finite numbers, or does not have that form.
    """
    tensor = found.state_dict[name]
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UserError(f"{path}: '{name}' is {kind}, the model needs floating-point numbers")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = f"{tensor.layout} on device {tensor.device}"
        raise UserError(f"{path}: '{name}' is {kind}, the model needs plain numbers")
    rank, function = change or (len(shape), lambda t: t)
    changed = function(tensor) if tensor.ndim == rank else tensor
    if tensor.ndim != rank or not fits(changed, shape):
        needed = ", ".join("any" if size is None else str(size) for size in shape)
        turned = " once turned into its form here" if change else ""
        raise UserError(
            f"{path}: '{name}' is {tuple(tensor.shape)}, the model needs ({needed}){turned}: the "
            "file is damaged or of another architecture"
        )
    changed = changed.detach().to(torch.float32)
    if not torch.isfinite(changed).all():
        raise UserError(f"{path}: '{name}' holds NaN or infinite values: the file is damaged")
    return changed.contiguous()


def fits(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    """Whether a tensor has a shape, in which None stands for any size."""
    return tensor.ndim == len(shape) and all(
        want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
    )


def _fuse(found: Found, stem: str, names: list[str], width: int, path: str | Path) -> Tensor | None:
    """Queries, keys and values in one tensor; None when all three are missing."""
    is_bias = stem.endswith(".bias")
    lacking = [name for name in names if name not in found.state_dict]
    if len(lacking) == 3:
        return None
    if lacking and (lacking != [names[1]] or not is_bias or found.table.key_bias):
        raise UserError(f"{path} lacks {len(lacking)} tensor(s): {', '.join(lacking)}")
    shape = (width,) if is_bias else (width, width)
    change = found.table.changes.get(stem)
    parts = [
        _take(found, name, change, shape, path) if name not in lacking else torch.zeros(width)
        for name in names
    ]
    return torch.cat(parts)


def _share_table(
    found: Found, renamed: Renamed, missing: dict[str, str], path: str | Path
) -> set[str]:
    """Give every block a copy of a shared table of relative position bias."""
    name = found.prefix + str(found.table.shared_table)
    if name not in found.state_dict:
        return set()
    own = [n for n in renamed.tensors if n.endswith("relative_position_bias_table")]
    if own:
        theirs = renamed.theirs[own[0]]
        raise UserError(f"{path} holds both {name} and {theirs}: keep one of them")
    table = _take(found, name, None, (None, None), path)
    for ours, _ in _expand(BIAS_TABLE, renamed.num_layers):
        renamed.tensors[ours] = table.clone()
        renamed.theirs[ours] = name
        del missing[ours]
    return {name}


def _settle_missing(
    found: Found,
    renamed: Renamed,
    missing: dict[str, str],
    width: int,
    rotary: bool,
    path: str | Path,
) -> None:
    """Refuse what is missing, except what the layout's table excuses.

    Raises:
        UserError: Naming the missing tensors as the file would spell them.
    """
    table, have = found.table, renamed.tensors
    excused = set()
    for group in _GROUPS:
        names = [ours for stem in group for ours, _ in _expand(stem, renamed.num_layers)]
        if not any(name in have for name in names) and not set(names) & set(table.needs):
            excused |= set(names)
    for ours, reasons in table.may_lack.items():
        names = [n for n in (ours, f"{ours}.weight", f"{ours}.bias") if n in missing]
        whole = not any(n in have for n in (ours, f"{ours}.weight", f"{ours}.bias"))
        allowed = not reasons or any(matches(r, name) for r in reasons for name in found.tower)
        if names and whole and allowed:
            excused |= set(names)
    if "pre_norm.weight" in have:  # CLIP: its patch embedding has no bias
        excused.add("patch_embed.projection.bias")
    biases = [ours for ours, _ in _expand("layers.#.attn.qkv.bias", renamed.num_layers)]
    if table.may_lack_bias and not any(name in have for name in biases):
        for name in biases:
            have[name] = torch.zeros(3 * width)
            renamed.added[name] = "zero biases; the source's attention has none"
            excused.add(name)
    lacking = [missing[name] for name in missing if name not in excused]
    if lacking:
        shown = ", ".join(lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise UserError(f"{path} lacks {len(lacking)} tensor(s) of the encoder: {shown}{more}")
    # registers without a table are those of DINOv3, whose positions are rotary
    rotary = rotary or (found.layout == "mmpretrain" and "register_tokens" in have)
    tables = {"pos_embed", BIAS_TABLE.replace("#", "0")}
    places = [] if rotary or tables & have.keys() else _position_names(found, table)
    if places:
        rotary_hint = " (DINOv3 has 'reg_token' instead)" if found.layout == "beit" else ""
        raise UserError(f"{path} lacks any positions: {' or '.join(places)}{rotary_hint}")


def _position_names(found: Found, table: Layout) -> list[str]:
    """Names under which a file of this layout may hold positions; none for rotary ones."""
    places = [table.names.get("pos_embed"), table.shared_table, table.names.get(BIAS_TABLE)]
    return [_their_name(found, str(name), 0) for name in places if name]


def _account_for(found: Found, used: set[str], path: str | Path) -> dict[str, str]:
    """Reasons for everything that is no part of the encoder.

    Raises:
        UserError: Naming what has no reason.
    """
    table = found.table
    dropped = dict.fromkeys(found.left_behind, "entry of the training, not of the model")
    unknown = []
    for name, value in found.state_dict.items():
        if name in used:
            continue
        inside = isinstance(name, str) and name.startswith(found.prefix)
        patterns = table.extras if inside else table.prefixes[found.prefix]
        rest = name.removeprefix(found.prefix) if inside else str(name)
        reason = next((r for pattern, r in patterns.items() if matches(pattern, rest)), None)
        if reason is None and any(belongs(key, prefix, str(name)) for key, prefix in found.others):
            reason = "another encoder, which was not asked for"
        if reason is None and not isinstance(value, Tensor):
            reason = "no tensor"
        if reason is None:
            unknown.append(str(name))
        else:
            dropped[str(name)] = reason
    if unknown:
        shown = ", ".join(unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise UserError(f"{path} holds unknown {len(unknown)} tensor(s): {shown}{more}")
    return dropped


def _refuse_unsupported(tower: dict[str, Any], path: str | Path) -> None:
    for name in tower:
        for pattern, design in UNSUPPORTED.items():
            if matches(pattern, str(name)):
                raise UserError(
                    f"{path} holds '{name}': {design}, which the plain ViT here does not have; "
                    "take a ViT of this system with the standard MLP and attention, e.g. its ViT-B"
                )
