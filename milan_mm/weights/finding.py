"""Finding the encoder in a file: the entry that holds the tensors, the layout, the prefix."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milan_mm.errors import UserError
from milan_mm.weights.layout import Layout, matches
from milan_mm.weights.layouts import LAYOUTS

# Entries of a training checkpoint that hold tensors by name; the first that is there counts.
WRAPPERS = ("state_dict", "model", "module", "model_state", "teacher")
STUDENT = "student"


@dataclass
class Found:
    """Where the encoder is.

    Attributes:
        layout: Key of `LAYOUTS`.
        prefix: What stands before all names of the encoder.
        wrapper: Entry of the file that holds the tensors; '' when the file is flat.
        state_dict: All that the entry holds, under its own names.
        left_behind: Names of the other entries.
        others: (layout, prefix) of other encoders in the same file, which were not asked for.
    """

    layout: str
    prefix: str
    wrapper: str
    state_dict: dict[str, Any]
    left_behind: list[str]
    others: list[tuple[str, str]] = field(default_factory=list)

    @property
    def table(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def tower(self) -> dict[str, Any]:
        """What stands under the prefix, without it."""
        start = len(self.prefix)
        return {n[start:]: t for n, t in self.state_dict.items() if n.startswith(self.prefix)}


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
        UserError: When no layout fits, or more than one does.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"layout '{layout}' is unknown: choose from {', '.join(LAYOUTS)}")
    state_dict, wrapper, left_behind = _unwrap(checkpoint, path, student)
    names = set(state_dict)
    candidates = [
        (key, prefix)
        for key, table in LAYOUTS.items()
        for prefix in table.prefixes
        if not _lacking(table, prefix, names) and not _forbidden(table, prefix, names)
    ]
    wanted = [pair for pair in candidates if layout in (None, pair[0])]
    if len(wanted) > 1:
        listed = " and ".join(f"{key} ('{prefix}*')" for key, prefix in wanted)
        remedy = "keep one of them" if layout else "choose one (--layout)"
        raise UserError(f"{path} fits more than one layout, {listed}: {remedy}")
    if not wanted:
        raise UserError(_nearest(names, path, layout))
    key, prefix = wanted[0]
    others = [pair for pair in candidates if pair != wanted[0]]
    return Found(key, prefix, wrapper, state_dict, left_behind, others)


def belongs(layout: str, prefix: str, name: str) -> bool:
    """Whether a whole name is one that the tables of a layout know under a prefix."""
    if not name.startswith(prefix):
        return False
    table, rest = LAYOUTS[layout], name.removeprefix(prefix)
    spellings = [name for names in table.tensors().values() for name in names]
    spellings += [name for names in table.split_tensors().values() for name in names]
    patterns = [*spellings, *table.extras, *filter(None, [table.shared_table])]
    return any(matches(pattern, rest) for pattern in patterns)


def _unwrap(
    checkpoint: Mapping[str, Any], path: str | Path, student: bool
) -> tuple[dict[str, Any], str, list[str]]:
    for wrapper in (STUDENT,) if student else WRAPPERS:
        inner = checkpoint.get(wrapper)
        if isinstance(inner, Mapping):
            left_behind = [str(name) for name in checkpoint if name != wrapper]
            return {str(n): t for n, t in inner.items()}, wrapper, left_behind
    if student:
        raise UserError(f"{path} holds no entry '{STUDENT}': leave out the choice of the student")
    return {str(n): t for n, t in checkpoint.items()}, "", []


def _lacking(table: Layout, prefix: str, names: Collection[str]) -> list[str]:
    """The markers of a layout that are not there."""
    groups = [(m,) if isinstance(m, str) else m for m in table.markers]
    return [
        " or ".join(f"'{prefix}{name}'" for name in group)
        for group in groups
        if not any(prefix + name in names for name in group)
    ]


def _forbidden(table: Layout, prefix: str, names: Collection[str]) -> list[str]:
    return [prefix + name for name in table.absent if prefix + name in names]


def _nearest(names: Collection[str], path: str | Path, layout: str | None) -> str:
    """What is missing for the layouts that fit best, or the first names of a foreign file."""
    gaps: dict[str, tuple[int, str]] = {}
    for key, table in LAYOUTS.items():
        if layout not in (None, key):
            continue
        for prefix in table.prefixes:
            lacking = _lacking(table, prefix, names)
            hindering = _forbidden(table, prefix, names)
            there = sum(belongs(key, prefix, name) for name in names) if names else 0
            if len(lacking) == len(table.markers) and there < 4:
                continue
            parts = [f"lacks {' and '.join(lacking)}"] if lacking else []
            parts += [f"holds '{hindering[0]}'"] if hindering else []
            gap = (-there, f"for layout {key} it {' and '.join(parts)}")
            gaps[key] = min(gap, gaps.get(key, gap))
    first = ", ".join(sorted(names)[:3]) or "none"
    if best := [text for _, text in sorted(gaps.values())[:2]]:
        reason = f"{'; '.join(best)}; its first names are: {first}"
        return f"{path} holds no complete plain-ViT encoder: {reason}"
    known = f"layout {layout}" if layout else f"a layout that is known here ({', '.join(LAYOUTS)})"
    return f"{path} holds no plain-ViT encoder in {known}; its first names are: {first}"
