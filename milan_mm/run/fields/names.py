"""Names at the top of a config file: setting one acts on all that the file derives from it.

A recipe states a number once, `max_epochs = 400`, and derives schedule and loop from it. mmengine
overrides fields of the finished config, where nothing is derived any more, so
`--cfg-options max_epochs=100` would change a name that nobody reads. Here the file is evaluated
again with the name set, and what comes out different is what the option changes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.run.fields.keys import FIRST_KEYS, SAME, hint, nearest
from milan_mm.run.fields.source import bases_of, can_evaluate, evaluate, load_base, unread_names
from milan_mm.text import shorten_list

_ABSENT = object()
_MOST_SHOWN = 8
_TELLING = 64  # a smaller number is equal to many fields that have nothing to do with it
# Options that move everything that belongs to what a name stands for.
_OPTIONS = {
    "base_lr": "--lr",
    "batch_per_gpu": "--batch-per-gpu",
    "crop_size": "--img-size",
    "img_size": "--img-size",
    "lr": "--lr",
    "max_epochs": "--epochs",
    "max_iters": "--iters",
}


@dataclass(frozen=True)
class Change:
    """A field that comes out different; `old` or `new` is `_ABSENT` where there is none."""

    path: tuple[str | int, ...]
    old: Any
    new: Any

    @property
    def name(self) -> str:
        """Dotted."""
        return ".".join(map(str, self.path))


def set_names(cfg: Config, settings: Mapping[str, Any], option: str) -> list[str]:
    """Set names of a config's file, and every field that follows from them, in place.

    A total batch whose learning rate does not follow keeps the one that the rate was chosen for
    (`auto_scale_lr.base_batch_size`), so that the two are compared before training.

    Args:
        cfg: As it was loaded, or changed since: other fields stay.
        settings: Dotted names to values. The first part of each is a name of the file.
        option: How the user gave them, for messages: '--cfg-options' or '--img-size N'.

    Returns:
        A line for the log for each name: which fields follow.

    Raises:
        UserError: For a name that nothing follows from, and for a field that was set otherwise
            before, e.g. by `--data`.
    """
    notes = []
    path = Path(cfg.filename)
    before = load(path).to_dict()
    changes = _follow(path, before, settings, option)
    for name, value in settings.items():
        own = changes if len(settings) == 1 else _follow(path, before, {name: value}, option)
        derived = [change for change in own if change.path[0] in FIRST_KEYS]
        if not derived and _get(before, name) != _plain(value):
            raise UserError(
                f"{option} {name}={value!r}: {path.name} derives nothing from '{name}', so it "
                f"would change nothing. {_remedy(path, before, name, value)}"
            )
        if derived:
            shown = [f"{change.name}={_shown(change.new)}" for change in derived]
            more = len(shown) - _MOST_SHOWN
            notes.append(
                f"{option} {name}={value!r}: sets {', '.join(shown[:_MOST_SHOWN])}"
                + (f" and {more} more" if more > 0 else "")
            )
    for change in changes:
        _apply(cfg, change, f"{option} {' '.join(settings)}")
    return notes


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Dotted names of the fields that differ between two configs."""
    return [change.name for change in _changes(before, after)]


def names_of(cfg: Config) -> set[str]:
    """Names at the top of a config that mmengine does not read: it derives fields from them."""
    return {key for key in cfg if key not in FIRST_KEYS or key == "total_batch"}


def check_first_key(cfg: Config, key: str, shown: str) -> None:
    """Check that the first part of an option is a key that is read, or a name of the file.

    Raises:
        UserError: With the nearest spelling.
    """
    name = key.partition(".")[0]
    if name in FIRST_KEYS or name in cfg:
        return
    fields = [f for f, _ in _leaves(cfg.to_dict()) if f.rpartition(".")[2] == name]
    fields = [f for f in fields if f.partition(".")[0] in FIRST_KEYS]
    near = hint(name, FIRST_KEYS | set(cfg))
    if fields:
        near += f"; fields of this name: {shorten_list(fields, 3)}"
    raise UserError(f"--cfg-options {shown}: nothing reads '{name}'{near}")


def check_file_names(cfg: Config) -> None:
    """Check that no name which a config file sets is one that it misspelt, or that has no effect.

    A file may hold names that nothing reads; many do. Refused is one that is nearly a key that is
    read, and one that replaces a name of its base without the fields that the base derived from it.

    Raises:
        UserError: With the fields that would have to be set.
    """
    if not can_evaluate(cfg):
        return
    path = Path(cfg.filename)
    unread = unread_names(path)
    if not unread:
        return
    bases: dict[str, Any] = {}
    for base in bases_of(path):
        bases |= load_base(path, base).to_dict()
    known = FIRST_KEYS | set(bases)
    for name in sorted(unread):
        is_usual = name in known or name.endswith("_pipeline")  # train_, test_
        near = None if is_usual else nearest(name, known, SAME)
        if near:
            raise UserError(f"{path}: nothing reads '{name}'; did you mean '{near}'?")
        if name in bases and name in cfg and _plain(bases[name]) != _plain(cfg[name]):
            raise UserError(
                f"{path} sets {name}={_shown(cfg[name])}, which changes nothing: what its base "
                f"derives from {name} is fixed by then. {_remedy(path, bases, name, cfg[name])}"
            )


def _follow(
    path: Path, before: dict[str, Any], settings: Mapping[str, Any], option: str
) -> list[Change]:
    """What comes out different when a file is evaluated with other values of some names."""
    try:
        after = evaluate(path, settings).to_dict()
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        shown = " ".join(f"{name}={value!r}" for name, value in settings.items())
        raise UserError(
            f"{option} {shown}: {path.name} cannot be evaluated with it ({error})"
        ) from None
    changes = list(_changes(before, after))
    if not any(change.path[0] == "optim_wrapper" and change.path[-1] == "lr" for change in changes):
        changes = [change for change in changes if change.path[0] != "auto_scale_lr"]
    return changes


def _changes(old: Any, new: Any, path: tuple[str | int, ...] = ()) -> Iterator[Change]:
    """Where two configs differ, as deep as both have the same structure."""
    if isinstance(old, dict) and isinstance(new, dict):
        # in a base of this package every type gets its scope, and in a copy of it none does
        keys = {key: None for key in (*old, *new) if key != "_scope_"}
        for key in keys:
            yield from _changes(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _changes(a, b, (*path, i))
    elif old is _ABSENT or new is _ABSENT or _plain(old) != _plain(new):
        yield Change(path, old, new)


def _apply(cfg: Config, change: Change, option: str) -> None:
    """Change a field, unless it was changed otherwise since the file was read."""
    *parents, last = change.path
    node: Any = cfg
    try:
        for key in parents:
            node = node[key]
        now = node[last] if isinstance(last, int) else node.get(last, _ABSENT)
    except (KeyError, IndexError, TypeError, AttributeError):
        node, now = None, _ABSENT
    if now is not _ABSENT and _plain(now) == _plain(change.new):
        return
    if node is None or (now is not change.old and _plain(now) != _plain(change.old)):
        raise UserError(
            f"{option} sets {change.name}={_shown(change.new)}, and another option has set it to "
            f"{'nothing' if now is _ABSENT else _shown(now)}: leave one of them out"
        )
    if change.new is _ABSENT:
        del node[last]
    else:
        node[last] = change.new


def _remedy(path: Path, config: dict[str, Any], name: str, value: Any) -> str:
    """The fields that a name stands for in this file or in its bases, and the option for them."""
    fields = _fields_of_bases(path, name, value)
    old = _get(config, name)
    if not fields and not (old is None or (isinstance(old, int) and old < _TELLING)):
        fields = [
            field
            for field, other in _leaves(config)
            if field.partition(".")[0] in FIRST_KEYS and type(other) is type(old) and other == old
        ]
    option = _OPTIONS.get(name)
    if fields:
        return f"Set {', '.join(fields[:5])}" + (f", or use {option}" if option else "")
    return f"Use {option}" if option else "Leave it out"


def _fields_of_bases(path: Path, name: str, value: Any) -> list[str]:
    """The fields that follow a name in the nearest base where any do; the file replaced them."""
    for base in bases_of(path):
        if "::" in base:
            continue
        found = load(path.parent / base).to_dict()
        if name.partition(".")[0] in found:
            changes = _follow(path.parent / base, found, {name: value}, "")
            fields = [c.name for c in changes if c.path[0] in FIRST_KEYS]
            if fields := fields or _fields_of_bases(path.parent / base, name, value):
                return fields
    return []


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is neither a dict nor a list of dicts, with its dotted name; lists as tuples."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}".lstrip("."))
    elif isinstance(node, (list, tuple)) and any(isinstance(part, (dict, list)) for part in node):
        for i, part in enumerate(node):
            yield from _leaves(part, f"{name}.{i}")
    else:
        yield name, _plain(node)


def _get(config: Any, name: str) -> Any:
    for key in name.split("."):
        try:
            config = config[int(key)] if isinstance(config, (list, tuple)) else config[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return _ABSENT
    return _plain(config)


def _plain(value: Any) -> Any:
    """Lists as tuples, which configs use alike."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _shown(value: Any) -> str:
    text = "nothing" if value is _ABSENT else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
