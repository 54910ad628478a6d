"""From a file's names and shapes to those of `PlainViT`; every tensor is accounted for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.finding import Found, reasons_for_rest, some
from milan_mm.weights.layouts.table import BIAS_TABLE, FIRST_LAYER, MODULES, matches
from milan_mm.weights.measuring import Shape, has_gates, measure, shape_of, take

MAX_BLOCKS = 200
# Groups of tensors that are all there or all absent.
_GROUPS = (
    ("layers.#.gamma_1", "layers.#.gamma_2"),
    (BIAS_TABLE,),
    ("layers.#.attn.rel_pos_h", "layers.#.attn.rel_pos_w"),
    ("register_tokens",),
    ("pre_norm.weight", "pre_norm.bias"),
    ("ln2.weight", "ln2.bias"),
    ("pos_embed",),
    *(
        tuple(f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))
        for modules in (
            ("layers.#.attn.q_norm", "layers.#.attn.k_norm"),
            ("layers.#.attn.norm",),
            ("layers.#.ffn.norm",),
            ("patch_embed.norm",),
        )
    ),
    (
        "attn_pool.latent",
        *(f"{m}.{kind}" for m in MODULES for kind in ("weight", "bias") if "attn_pool" in m),
    ),
)


@dataclass(frozen=True)
class Renamed:
    """The encoder under the names of `PlainViT`.

    Attributes:
        tensors: By name here, float32, of the shapes of `PlainViT`.
        theirs: Name here -> name in the file.
        dropped: Name in the file -> why it is not part of the encoder.
        added: Name here -> what was made up, since the file has no such tensor.
    """

    tensors: dict[str, Tensor]
    theirs: dict[str, str]
    dropped: dict[str, str]
    added: dict[str, str]


def rename(
    found: Found,
    rotary: bool = False,
    final_norm: bool = True,
    norm: str | None = None,
    patch_bias: bool = True,
) -> Renamed:
    """Rename, fuse and transpose the tensors of an encoder.

    The position table keeps the rows that the file has; see `fit_positions`.

    Args:
        found: Where the encoder is.
        rotary: It is known to have rotary positions, which leave no trace in a file.
        final_norm: Whether it may have a norm after its last block; its config can say that it
            has none.
        norm: What is known of the kind of its norms, see `build_norm`; None takes the layout's.
        patch_bias: Whether its patch embedding has a bias; an encoder of ours can say that it has
            none.

    Raises:
        UserError: When a tensor is missing, unknown, of a wrong shape, or not of finite numbers;
            it is named.
    """
    num_layers = _count_blocks(found)
    widths = measure(found, num_layers)
    width = widths.embed_dims
    tensors: dict[str, Tensor] = {}
    theirs: dict[str, str] = {}
    added: dict[str, str] = {}
    missing: dict[str, str] = {}  # name here -> names in the file
    used: set[str] = set()
    gated = {ours: parts for ours, *parts in _gates(found, num_layers)}
    for stem, spelling in found.table.tensors.items():
        shape = shape_of(stem, widths)
        for ours, block in _expand(stem, num_layers):
            if ours in gated:
                continue
            names = found.names(spelling, block)
            there = [name for name in names if name in found.state_dict]
            if len(there) > 1:
                raise UserError(f"{found.path} holds both {' and '.join(there)}: keep one of them")
            if there:
                theirs[ours] = there[0]
                tensors[ours] = take(found, there[0], shape, found.table.changes.get(stem))
            else:
                missing[ours] = " or ".join(names)
    for ours, (gates, values) in gated.items():
        shape = shape_of(FIRST_LAYER + ours[ours.rindex(".") :], widths)
        half: Shape = (widths.hidden_dims, *shape[1:])
        if lost := [name for name in (gates, values) if name not in found.state_dict]:
            missing[ours] = " and ".join(lost)
            continue
        theirs[ours] = gates
        tensors[ours] = torch.cat([take(found, name, half) for name in (gates, values)])
        used |= {gates, values}
    for stem, parts in found.table.split_tensors.items():
        for ours, block in _expand(stem, num_layers):
            names = found.names(parts, block)
            fused = _fuse(found, stem, names, width)
            if fused is None:
                missing[ours] = " or ".join(names)
                continue
            theirs[ours], tensors[ours] = names[0], fused
            used |= set(names)
            if names[1] not in found.state_dict:
                added[ours] = "zero key biases, which change no attention"
    for ours, table in _shared_tables(found, theirs, num_layers).items():
        theirs[ours], tensors[ours] = f"{found.prefix}{found.table.shared_table}", table
        del missing[ours]
    for stem in found.table.optional_bias:
        biases = [ours for ours, _ in _expand(stem, num_layers)]
        if any(name in tensors for name in biases):
            continue
        for ours in biases:
            tensors[ours] = torch.zeros(shape_of(stem, widths)[0] or 0)
            added[ours] = "zero biases; the source has none there"
            missing.pop(ours, None)
    if (norm or found.table.norm) == "RMS":
        if norm_biases := _norm_biases(tensors):
            raise UserError(
                f"{found.path} holds '{theirs[min(norm_biases)]}', and its norms are RMSNorms, "
                "which have no bias: the file is damaged"
            )
        missing = {n: t for n, t in missing.items() if n not in _norm_biases(missing)}
    if not final_norm:
        missing = {ours: names for ours, names in missing.items() if not ours.startswith("ln1.")}
    if not patch_bias:
        missing.pop("patch_embed.projection.bias", None)
    _refuse_missing(found, tensors, missing, num_layers)
    if not rotary:
        _refuse_no_positions(found, tensors)
    return Renamed(tensors, theirs, reasons_for_rest(found, used | set(theirs.values())), added)


def _expand(stem: str, num_layers: int) -> list[tuple[str, int | None]]:
    if "#" not in stem:
        return [(stem, None)]
    return [(stem.replace("#", str(i)), i) for i in range(num_layers)]


def _count_blocks(found: Found) -> int:
    """One more than the highest number of a block, so that gaps are missed by name."""
    start = found.table.tensors["layers.#.ln1.weight"][0].partition("#")[0]
    numbers = set()
    for name in found.tower:
        number, sep, _ = name.removeprefix(start).replace("/", ".").partition(".")
        if name.startswith(start) and sep and number.isdecimal():
            numbers.add(int(number))
    if not numbers:
        raise UserError(f"{found.path} holds no blocks '{found.prefix}{start}*'")
    if max(numbers) >= MAX_BLOCKS:
        raise UserError(
            f"{found.path} numbers a block {max(numbers)}: more than {MAX_BLOCKS} blocks"
        )
    return max(numbers) + 1


def _gates(found: Found, num_layers: int) -> list[tuple[str, str, str]]:
    """(name here, name of the gates, name of the values) of a SwiGLU that is stored in two parts.

    Empty for files whose first layers are plain.
    """
    table = found.table
    if not table.gates or (FIRST_LAYER in table.names and not has_gates(found, num_layers)):
        return []
    places = []
    for stem, parts in table.gate_tensors.items():
        if stem in table.optional_bias and not has_gates(found, num_layers, ["bias"]):
            continue
        for ours, block in _expand(stem, num_layers):
            gates, values = found.names(parts, block)
            places.append((ours, gates, values))
    return places


def _norm_biases(names: Collection[str]) -> set[str]:
    """Those that are biases of norms."""
    parts = ("norm", "ln1", "ln2", "pre_norm", "q_norm", "k_norm")
    return {n for n in names if n.endswith(".bias") and n.split(".")[-2] in parts}


def _fuse(found: Found, stem: str, names: list[str], width: int) -> Tensor | None:
    """Queries, keys and values in one tensor; None when all three are missing."""
    is_bias = stem.endswith(".bias")
    missing = [name for name in names if name not in found.state_dict]
    if len(missing) == 3:
        return None
    if missing and (missing != [names[1]] or not is_bias or found.table.key_bias):
        raise UserError(f"{found.path} is missing {' and '.join(missing)}")
    shape = (width,) if is_bias else (width, width)
    change = found.table.changes.get(stem)
    parts = [
        take(found, name, shape, change) if name not in missing else torch.zeros(width)
        for name in names
    ]
    return torch.cat(parts)


def _shared_tables(found: Found, theirs: Mapping[str, str], num_layers: int) -> dict[str, Tensor]:
    """A copy of a shared table of relative position bias for every block."""
    if not found.table.shared_table:
        return {}
    name = found.prefix + found.table.shared_table
    if name not in found.state_dict:
        return {}
    places = [ours for ours, _ in _expand(BIAS_TABLE, num_layers)]
    if own := [theirs[ours] for ours in places if ours in theirs]:
        raise UserError(f"{found.path} holds both {name} and {own[0]}: keep one of them")
    table = take(found, name, (None, None))
    return {ours: table.clone() for ours in places}


def _refuse_missing(
    found: Found, tensors: Mapping[str, Tensor], missing: Mapping[str, str], num_layers: int
) -> None:
    """Refuse what is missing, except what the layout's table excuses.

    Raises:
        UserError: Naming the missing tensors as the file would spell them.
    """
    excused = set()
    for group in _GROUPS:
        names = {ours for stem in group for ours, _ in _expand(stem, num_layers)}
        if not names & tensors.keys() and not names & set(found.table.needs):
            excused |= names
    for ours, reasons in found.table.optional.items():
        names = {ours, f"{ours}.weight", f"{ours}.bias"}
        allowed = not reasons or any(_holds(found, reason) for reason in reasons)
        if allowed and not names & tensors.keys():
            excused |= names
    if "pre_norm.weight" in tensors:  # CLIP: its patch embedding has no bias
        excused.add("patch_embed.projection.bias")
    if gaps := [theirs for ours, theirs in missing.items() if ours not in excused]:
        raise UserError(f"{found.path} is missing tensors of the encoder: {some(gaps)}")


def _holds(found: Found, pattern: str) -> bool:
    """Whether a name fits, under the prefix or, of a pattern with '^', beside it."""
    if pattern.startswith("^"):
        beside = found.outer + pattern.removeprefix("^")
        return any(matches(beside, name) for name in found.state_dict)
    return any(matches(pattern, name) for name in found.tower)


def _refuse_no_positions(found: Found, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a file without positions in a layout that stores some."""
    if "pos_embed" in tensors or BIAS_TABLE.replace("#", "0") in tensors:
        return
    # registers without a table are those of DINOv3, whose positions are rotary
    if found.layout == "mmpretrain" and "register_tokens" in tensors:
        return
    table = found.table
    stored = [table.names.get("pos_embed"), table.shared_table, table.names.get(BIAS_TABLE)]
    if places := found.names([str(name) for name in stored if name], 0):
        hint = " (DINOv3 has 'reg_token' instead)" if found.layout == "beit" else ""
        raise UserError(f"{found.path} has no positions: {' or '.join(places)}{hint} is missing")
