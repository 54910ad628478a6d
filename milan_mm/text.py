"""Wording that messages of all rooms share."""

from collections.abc import Iterable
from pathlib import Path

from milan_mm.escaping import visible


def shorten_list(names: Iterable[object], limit: int = 5) -> str:
    """At most `limit` names, and how many more there are: "'a', 'b' and 3 more".

    Text and paths are quoted, numbers are not; without any names it is "nothing".
    """
    names = list(names)
    shown = [f"'{name}'" if isinstance(name, (str, Path)) else str(name) for name in names[:limit]]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(shown) + more or "nothing"


def shorten_value(value: object) -> str:
    """A value as Python writes it; of a long list the first five: "[1, 2, 3, 4, 5 and 9 more]"."""
    if not isinstance(value, (list, tuple)) or len(value) <= 5:
        return repr(value)
    return f"[{shorten_list(value)}]"


def shorten(text: str, limit: int = 80) -> str:
    """A name of a file of others: visible, and at most `limit` letters of it."""
    return visible(text[:limit]) + ("..." if len(text) > limit else "")


def shown(value: object, limit: int = 80) -> str:
    """A value of a file of others as Python writes it, see `shorten`."""
    try:
        return shorten(repr(value), limit)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply"


def count(number: int, noun: str) -> str:
    """A number and what it counts: "1 epoch", "1,251 updates", "no checkpoints"."""
    amount = f"{number:,}" if number else "no"
    return f"{amount} {noun}" if number == 1 else f"{amount} {noun}s"


def bytes_of(number: float) -> str:
    """A size for people: "1.4 GiB", "0.3 MiB"."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
