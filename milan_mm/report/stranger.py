"""Reading a work directory that anybody may have made: what lies in it, and is what it should be.

A file counts only where it is a plain one inside the folder, also after its links are followed: a
page must not hold files of whoever makes it. Of what is read, entries of the wrong kind are left
out, and numbers that no run has.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_MOST = 10**15  # of whole numbers, far more than any run counts


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path that exists leads to a file or folder inside of another folder."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # missing, not allowed, or a circle of links
        return False
    is_plain = target.is_file() or target.is_dir()  # neither a pipe nor a device
    return is_plain and target.is_relative_to(folder.resolve())


def read_json(path: Path) -> dict[str, Any] | None:
    """An object of a JSON file; None for what is missing or damaged."""
    try:
        content = loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def loads(text: str) -> Any:
    """JSON, with infinity for whole numbers that no float can hold."""
    return json.loads(text, parse_int=lambda digits: _whole(digits))


def safe_facts(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of run.json what the page shows, as `write_run_file` writes it."""
    if facts is None:
        return None
    return dict(facts) | dict(
        start=facts["start"] if _is_count(facts["start"]) else 0,
        plan=[line for line in facts["plan"] if isinstance(line, str)],
        changes=[change for change in facts["changes"] if isinstance(change, Mapping)],
        record=safe_record(facts["record"]),
    )


def safe_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a record what the page shows; the record of a checkpoint is checked as a whole."""
    return _fitting(record, _RECORD)


def safe_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a config what the page shows."""
    return dict(config) | _fitting({name: config.get(name) for name in _CONFIG}, _CONFIG)


def _whole(digits: str) -> float:
    return int(digits) if len(digits) < 16 else float(digits)


def _fitting(found: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The entries that fit; those that hold entries of their own without the ones that do not."""
    kept = dict(found)
    for name, kind in kinds.items():
        if name in kept:
            kept[name] = kind(kept[name])
    return kept


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _count(value: Any) -> int | None:
    return value if _is_count(value) else None


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and 0 <= value < _MOST else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> list[str] | None:
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else None


def _dict_of(kinds: Mapping[str, Callable[[Any], Any]] | Callable[[Any], Any]) -> Callable:
    """Entries of these kinds, or all of one kind."""

    def fitting(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            return {}
        if isinstance(kinds, Mapping):
            return _fitting(value, kinds)
        fits = {str(name): kinds(part) for name, part in value.items()}
        return {name: part for name, part in fits.items() if part is not None}

    return fitting


_RECORD: dict[str, Callable[[Any], Any]] = dict(
    recipe=_text,
    encoder=_dict_of(dict(source=_text, sha256=_text)),
    model=_dict_of(dict(type=_text)),
    classes=_texts,
    total_batch=_count,
    split=_dict_of(_count),
    schedule=_dict_of(_number),
    data=_dict_of(_dict_of(dict(count=_count, hash=_text, root=_text))),
    seed=_count,
    versions=_dict_of(_text),
    options=_dict_of({}),
)
_CONFIG: dict[str, Callable[[Any], Any]] = dict(
    train_cfg=_dict_of(dict(max_iters=_count, max_epochs=_count, val_interval=_count)),
    train_dataloader=_dict_of(dict(batch_size=_count)),
    optim_wrapper=_dict_of(dict(accumulative_counts=_count)),
    total_batch=_count,
    model=_dict_of(dict(type=_text)),
)
