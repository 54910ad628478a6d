"""Whether names of a file are those of a layout, under a prefix."""

from collections.abc import Collection

from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.layouts.table import Layout, matches, spellings


def fits(table: Layout, prefix: str, names: Collection[str]) -> bool:
    """Whether all markers of a layout are there, and nothing that it excludes."""
    return not missing(table, prefix, names) and not forbidden(table, prefix, names)


def missing(table: Layout, prefix: str, names: Collection[str]) -> list[str]:
    """The markers of a layout that are not there."""
    return [
        " or ".join(f"'{prefix}{name}'" for name in spellings(marker))
        for marker in table.markers
        if not any(prefix + name in names for name in spellings(marker))
    ]


def forbidden(table: Layout, prefix: str, names: Collection[str]) -> list[str]:
    """The names there that a layout excludes."""
    return [prefix + name for name in table.absent if prefix + name in names]


def belongs(layout: str, prefix: str, name: str) -> bool:
    """Whether a whole name is one that a layout knows under a prefix."""
    rest = name.removeprefix(prefix)
    return name.startswith(prefix) and any(matches(p, rest) for p in LAYOUTS[layout].patterns)
