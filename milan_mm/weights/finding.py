"""Finding the encoder in a file: the entry that holds the tensors, the layout, the prefix."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.layouts.table import Layout, matches, spellings

# Entries of a training checkpoint that hold tensors by name; the first that is there counts.
WRAPPERS = ("state_dict", "model", "module", "model_state", "teacher")
STUDENT = "student"
# Designs that `PlainViT` has no place for, recognised by their tensors.
UNSUPPORTED = {
    "*.mlp.w12.*": "a gated MLP (SwiGLU)",
    "*.mlp.w1.*": "a gated MLP (SwiGLU)",
    "*.mlp.weights_in.*": "a gated MLP (SwiGLU)",
    "*.mlp.gate_proj.*": "a gated MLP (SwiGLU)",
    "*.mlp.fc1_g.*": "a gated MLP (SwiGLU)",
    "*.attn.q_norm.*": "normalised queries and keys",
    "*.attn.inner_attn_ln.*": "a norm inside of the attention",
}


@dataclass(frozen=True)
class Found:
    """Where the encoder is.

    Attributes:
        path: The file, for messages.
        layout: Key of `LAYOUTS`.
        prefix: What stands before all names of the encoder.
        wrapper: Entry of the file that holds the tensors; '' when the file is flat.
        state_dict: All that the entry holds, under its own names.
        left_behind: Names of the other entries.
        others: (layout, prefix) of other encoders in the same file, which were not asked for.
    """

    path: str
    layout: str
    prefix: str
    wrapper: str
    state_dict: Mapping[str, Any]
    left_behind: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    @property
    def table(self) -> Layout:
        """The layout itself."""
        return LAYOUTS[self.layout]

    @cached_property
    def tower(self) -> dict[str, Any]:
        """What stands under the prefix, without it."""
        start = len(self.prefix)
        return {n[start:]: t for n, t in self.state_dict.items() if n.startswith(self.prefix)}

    def names(self, spelling: Iterable[str], block: int | None) -> list[str]:
        """Whole names in the file, of spellings in the layout's table."""
        found = [name if block is None else name.replace("#", str(block)) for name in spelling]
        whole = [n.removeprefix("^") if n.startswith("^") else self.prefix + n for n in found]
        return list(dict.fromkeys(whole))


def find_encoder(
    checkpoint: Mapping[str, Any],
    path: str | Path,
    layout: str | None = None,
    student: bool = False,
) -> Found:
    """Find the one encoder of a file.

    Args:
        checkpoint: See `read_checkpoint`.
        path: Of the file, for messages.
        layout: Key of `LAYOUTS`, for files that hold encoders in more than one.
        student: Of a self-distillation (DINO, iBOT), take the student instead of the teacher.

    Raises:
        UserError: When no layout fits, or more than one does, or `PlainViT` has no such parts.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"layout '{layout}' is unknown: choose from {', '.join(LAYOUTS)}")
    wrapper = _wrapper(checkpoint, path, student)
    content = checkpoint[wrapper] if wrapper else checkpoint
    state_dict = {str(name): tensor for name, tensor in content.items()}
    candidates = [
        (key, prefix)
        for key, table in LAYOUTS.items()
        for prefix in table.prefixes
        if not _missing(table, prefix, state_dict) and not _forbidden(table, prefix, state_dict)
    ]
    wanted = [pair for pair in candidates if layout in (None, pair[0])]
    if len(wanted) > 1:
        listed = " and ".join(f"{key} ('{prefix}*')" for key, prefix in wanted)
        remedy = "keep one of them" if layout else "choose one (--layout)"
        raise UserError(f"{path} fits more than one layout, {listed}: {remedy}")
    if not wanted:
        raise UserError(_nearest(state_dict, path, layout))
    found = Found(
        path=str(path),
        layout=wanted[0][0],
        prefix=wanted[0][1],
        wrapper=wrapper,
        state_dict=state_dict,
        left_behind=tuple(str(name) for name in checkpoint if wrapper and name != wrapper),
        others=tuple(pair for pair in candidates if pair != wanted[0]),
    )
    _refuse_unsupported(found)
    return found


def reasons_for_rest(found: Found, used: Collection[str]) -> dict[str, str]:
    """Name in the file -> why it is not part of the encoder, for all names but the used ones.

    Raises:
        UserError: Naming what has no reason.
    """
    dropped = dict.fromkeys(found.left_behind, "entry of the training, not of the model")
    unknown = []
    for name, value in found.state_dict.items():
        if name in used:
            continue
        inside = name.startswith(found.prefix)
        patterns = found.table.extras if inside else found.table.prefixes[found.prefix]
        rest = name.removeprefix(found.prefix) if inside else name
        reason = next((r for pattern, r in patterns.items() if matches(pattern, rest)), None)
        if reason is None and any(_belongs(key, prefix, name) for key, prefix in found.others):
            reason = "another encoder, which was not asked for"
        if reason is None and not isinstance(value, Tensor):
            reason = "not a tensor"
        if reason is None:
            unknown.append(name)
        else:
            dropped[name] = reason
    if unknown:
        raise UserError(f"{found.path} has unknown tensors: {some(unknown)}")
    return dropped


def some(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _wrapper(checkpoint: Mapping[str, Any], path: str | Path, student: bool) -> str:
    for wrapper in (STUDENT,) if student else WRAPPERS:
        if isinstance(checkpoint.get(wrapper), Mapping):
            return wrapper
    if student:
        raise UserError(f"{path} holds no entry '{STUDENT}': leave out the choice of the student")
    return ""


def _missing(table: Layout, prefix: str, names: Collection[str]) -> list[str]:
    """The markers of a layout that are not there."""
    return [
        " or ".join(f"'{prefix}{name}'" for name in spellings(marker))
        for marker in table.markers
        if not any(prefix + name in names for name in spellings(marker))
    ]


def _forbidden(table: Layout, prefix: str, names: Collection[str]) -> list[str]:
    return [prefix + name for name in table.absent if prefix + name in names]


def _belongs(layout: str, prefix: str, name: str) -> bool:
    """Whether a whole name is one that a layout knows under a prefix."""
    rest = name.removeprefix(prefix)
    return name.startswith(prefix) and any(matches(p, rest) for p in LAYOUTS[layout].patterns)


def _nearest(names: Collection[str], path: str | Path, layout: str | None) -> str:
    """What is missing for the layouts that fit best, or the first names of a foreign file."""
    gaps: dict[str, tuple[int, str]] = {}
    for key, table in LAYOUTS.items():
        if layout not in (None, key):
            continue
        for prefix in table.prefixes:
            missing = _missing(table, prefix, names)
            hindering = _forbidden(table, prefix, names)
            there = sum(_belongs(key, prefix, name) for name in names)
            if len(missing) == len(table.markers) and there < 4:
                continue
            parts = [f"is missing {' and '.join(missing)}"] if missing else []
            parts += [f"has '{hindering[0]}'"] if hindering else []
            gap = (-there, f"for layout {key} it {' and '.join(parts)}")
            gaps[key] = min(gap, gaps.get(key, gap))
    first = ", ".join(sorted(names)[:3]) or "none"
    if best := [text for _, text in sorted(gaps.values())[:2]]:
        reason = f"{'; '.join(best)}; its first names are: {first}"
        return f"{path} holds no complete plain-ViT encoder: {reason}"
    known = f"layout {layout}" if layout else f"a layout that is known here ({', '.join(LAYOUTS)})"
    return f"{path} holds no plain-ViT encoder in {known}; its first names are: {first}"


def _refuse_unsupported(found: Found) -> None:
    for name in found.tower:
        for pattern, design in UNSUPPORTED.items():
            if matches(pattern, name):
                raise UserError(
                    f"{found.path} holds '{name}': {design}, which the plain ViT here does not "
                    "have; take a ViT of this system with the standard MLP and attention, e.g. its "
                    "ViT-B"
                )
