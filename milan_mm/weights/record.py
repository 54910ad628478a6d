"""The record of a run in its checkpoints: what it holds, and reading it from anybody's file.

A checkpoint holds it under `checkpoint["meta"]["milan_mm"]`, as plain types only. `milan_mm.run`
writes it and compares it with other runs; weights files are read with its help.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS, ViTOptions, pair

KEY, VERSION = "milan_mm", 1
# Fields of a config that `--weights` may set, and so the only ones that a record may set again.
ENCODER_FIELDS = (
    *(f"model.backbone.{field.name}" for field in fields(ViTOptions)),
    *(f"{p}data_preprocessor.{name}" for p in ("", "model.") for name in ("mean", "std")),
    "optim_wrapper.paramwise_cfg.no_decay_names",
)
SCHEDULE = (
    "updates",
    "updates_per_epoch",
    "epochs",
    "warmup_updates",
    "highest_lr",
    "last_lr",
)
PLAIN_VIT = "milan_mm.PlainViT"
_MAX_DEPTH = 20
_PAIRS = ("img_size", "rel_pos_grid", "rel_pos_bias_grid", "rope_grid")


def read_record(checkpoint: Mapping[str, Any], path: str | Path = "the checkpoint") -> dict | None:
    """The record in a checkpoint; None for files without one.

    Args:
        checkpoint: See `read_checkpoint`; whoever wrote it need not be trusted.
        path: Of the file, for messages.

    Returns:
        A record as `milan_mm.run.records.record.record_of` makes it, of the right types throughout.

    Raises:
        UserError: When the record is damaged, or of a later version.
    """
    meta = checkpoint.get("meta")
    record = meta.get(KEY) if isinstance(meta, Mapping) else None
    if record is None:
        return None
    if not isinstance(record, Mapping):
        raise UserError(_damaged(path, KEY, record))
    version = record.get("version")
    if type(version) is int and version > VERSION:
        raise UserError(
            f"{path} has a record of version {version}, this milan_mm reads up to {VERSION}: "
            "update milan_mm"
        )
    for name, fits in _KINDS.items():
        if name in _LATER and name not in record:
            continue
        if name not in record or not fits(record[name]):
            raise UserError(_damaged(path, name, record.get(name)))
    found = _LATER | {name: record[name] for name in _KINDS if name in record}
    if options := found["model"]["backbone"]:  # of a version without today's newest options
        found["model"] = found["model"] | dict(backbone=_complete(options))
    return found


def backbone_options(backbone: Mapping[str, Any]) -> dict[str, Any] | None:
    """All options of a `PlainViT` as plain values of one spelling, defaults included.

    Args:
        backbone: Of a config.

    Returns:
        None for another backbone.

    Raises:
        UserError: When the options contradict each other.
    """
    if backbone.get("type") != PLAIN_VIT:
        return None
    known = {field.name for field in fields(ViTOptions)}
    given = {name: value for name, value in backbone.items() if name in known}
    if "arch" not in given:
        return None
    whole = ViTOptions(**given)
    options: dict[str, Any] = plain(asdict(whole) | dict(pos_resize=whole.resize_rule))
    options["arch"] = ARCHS[given["arch"]] if isinstance(given["arch"], str) else options["arch"]
    for name in _PAIRS:
        if options[name] is not None:
            options[name] = list(pair(options[name]))
    return options


def statistics(preprocessor: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How a data preprocessor normalises images.

    Returns:
        mean, std: Of R, G, B in 0-255, whatever the order of the channels; a preprocessor may have
            one number for all three.
        rgb: Whether the model sees R first.
        None where nothing is normalised.
    """
    if not preprocessor:
        return None
    rgb = bool(preprocessor.get("to_rgb", preprocessor.get("bgr_to_rgb", False)))
    order = slice(None) if rgb else slice(None, None, -1)
    found: dict[str, Any] = dict(rgb=rgb)
    for name in ("mean", "std"):
        values = preprocessor.get(name)
        if not isinstance(values, list | tuple) or not all(map(_number, values)):
            return None
        if len(values) not in (1, 3):
            return None
        found[name] = [float(value) for value in values][order] * (3 // len(values))
    return found


def plain(value: Any) -> Any:
    """The same value in plain types: dicts, lists, text, numbers, None."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(part) for part in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (bool, int, float, str)):  # numpy's numbers, mmengine's texts
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def _damaged(path: str | Path, name: str, value: Any) -> str:
    shown = repr(value)[:80]
    return f"{path}: the record of its run is damaged: '{name}' is {shown}; copy it again"


def _is_plain(value: object, depth: int = 0) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(type(n) is str and _is_plain(v, depth + 1) for n, v in value.items())
    if isinstance(value, list):
        return all(_is_plain(part, depth + 1) for part in value)
    return value is None or type(value) in (bool, int, float, str)


def _optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _text(value: object) -> bool:
    return type(value) is str


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _flag(value: object) -> bool:
    return type(value) is bool


def _dict_of(**kinds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A dict that has these entries, each of its kind; it may have more, if they are plain."""

    def fits(value: Any) -> bool:
        return (
            _is_plain(value)
            and isinstance(value, dict)
            and all(name in value and kind(value[name]) for name, kind in kinds.items())
        )

    return fits


def _names(value: object) -> bool:
    return type(value) is list and all(type(name) is str for name in value)


def _values(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A dict whose values are of a kind."""
    return lambda value: type(value) is dict and _is_plain(value) and all(map(kind, value.values()))


def _three_numbers(value: object) -> bool:
    return type(value) is list and len(value) == 3 and all(map(_number, value))


def _options(value: Any) -> bool:
    """Options of a `PlainViT`, which contradict neither their types nor each other."""
    if not isinstance(value, dict) or not _is_plain(value):
        return False
    try:
        whole = _complete(value)
    except (ArithmeticError, KeyError, TypeError, ValueError):  # of values of the wrong type
        return False
    return (
        whole is not None
        and value.keys() <= whole.keys()
        and all(map(_typed, *zip(*whole.items(), strict=True)))
    )


def _typed(name: str, value: Any) -> bool:
    """Whether an option has the type of its default; where that is None, of a size or a list."""
    default = getattr(ViTOptions, name, None)
    if name == "arch":
        return value.keys() == ARCHS["base"].keys() and _whole_numbers([*value.values()])
    if type(default) in (bool, str):
        return type(value) is type(default)
    if type(default) is int and name not in _PAIRS:
        return type(value) is int
    if type(default) is float:
        return _number(value)
    if value is None or _number(value):
        return name not in ("out_indices", "global_layers")
    return type(value) is str if name == "pos_resize" else _whole_numbers(value)


def _whole_numbers(value: object) -> bool:
    return type(value) is list and all(type(number) is int for number in value)


def _complete(options: Mapping[str, Any]) -> dict[str, Any] | None:
    return backbone_options(dict(options, type=PLAIN_VIT))


def _fields(value: object) -> bool:
    """Only fields that `--weights` may set: a record must not reach the rest of a config."""
    if not isinstance(value, dict) or not _is_plain(value):
        return False
    kinds = dict(mean=_three_numbers, std=_three_numbers, no_decay_names=_names)
    return value.keys() <= {*ENCODER_FIELDS} and all(
        kinds.get(name.rpartition(".")[2], _is_plain)(given) for name, given in value.items()
    )


def _reading(value: object) -> bool:
    """Options of `read_encoder`, as a user gives them."""
    kinds = dict(layout=str, system=str, num_heads=int, student=bool)
    return type(value) is dict and all(
        name in kinds and type(given) is kinds[name] for name, given in value.items()
    )


def _given(value: object) -> bool:
    """Options of the command line, as a user gives them."""
    kinds = dict(data=_text, img_size=_count, epochs=_count, iters=_count, lr=_number)
    return type(value) is dict and all(
        kinds.get(name, _is_plain)(given) for name, given in value.items()
    )


# What the first records did not have yet, and what that means.
_LATER: dict[str, Any] = dict(options={})
_KINDS: dict[str, Callable[[Any], bool]] = dict(
    version=_count,
    recipe=_text,
    recipe_hash=_text,
    encoder=_optional(
        _dict_of(
            source=_text,
            sha256=_optional(_text),
            system=_text,
            layout=_text,
            pooling=_text,
            reading=_reading,
            fields=_fields,
        )
    ),
    model=_dict_of(
        type=_text,
        backbone=_optional(_options),
        statistics=_optional(_dict_of(mean=_three_numbers, std=_three_numbers, rgb=_flag)),
        num_classes=_optional(_count),
        masks=_flag,
    ),
    classes=_optional(_names),
    total_batch=_optional(_count),
    split=_dict_of(batch_per_process=_count, processes=_count, accumulation=_count),
    schedule=_dict_of(**dict.fromkeys(SCHEDULE, _optional(_number))),
    data=_values(_dict_of(count=_count, hash=_optional(_text), root=_optional(_text))),
    seed=_optional(_count),
    versions=_values(_text),
    settings=_dict_of(),
    options=_given,
)
