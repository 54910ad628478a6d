"""How the records of two runs differ, and what a difference means.

Tests, resumed runs and evaluations compare the record of a checkpoint with that of the command at
hand, each by its own policy.
"""

import math
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from milan_mm.text import shorten_value

# Fields whose difference changes nothing, or which only name things.
_NAMES = ("version", "recipe", "recipe_hash", "versions", "split", "options")
_HARMLESS = ("encoder.source", "encoder.fields", "encoder.reading", "model.backbone.with_cp")
# Of a test: what matters in training only.
_TRAINING_ONLY = ("drop_path_rate", "frozen", "frozen_stages", "fixed_pos_embed", "with_cp")
# Compared under other names already.
_REPEATED = (
    "settings.total_batch",
    "settings.model.backbone",
    "settings.model.data_preprocessor",
    "settings.data_preprocessor",
)
# Other parts of the model follow from these, which a record does not set.
_WIDTHS = ("model.type", "model.backbone.arch")
_STATISTICS = tuple(
    f"{place}data_preprocessor.{name}" for place in ("", "model.") for name in ("mean", "std")
)
# Field of a record -> names of a config, where it is not the same name.
_CONFIG_NAMES = {
    "model.statistics.mean": _STATISTICS[::2],
    "model.statistics.std": _STATISTICS[1::2],
    "seed": ("randomness.seed",),
}
Use = Literal["test", "resume"]


class Kind(Enum):
    """What a difference means.

    KNOWN: The record knows better: the command says nothing of its own about it.
    CONTRADICTION: Both say something, and the result would be another.
    HARMLESS: The result is the same, up to rounding.
    """

    KNOWN = "known"
    CONTRADICTION = "contradiction"
    HARMLESS = "harmless"


@dataclass(frozen=True)
class Difference:
    """A field with two values.

    Attributes:
        field: Dotted, e.g. 'model.backbone.act' or 'settings.optim_wrapper.optimizer.lr'.
        recorded, now: In the record, and in the run at hand; None where it is not set.
    """

    field: str
    recorded: Any
    now: Any
    kind: Kind

    def __str__(self) -> str:
        name = self.field.removeprefix("settings.").replace("statistics", "data_preprocessor")
        recorded, now = shorten_value(self.recorded), shorten_value(self.now)
        return f"{name} is {recorded} in the checkpoint and {now} here"


def differences(
    record: dict[str, Any],
    now: dict[str, Any],
    use: Use,
    fixed: Collection[str] = (),
) -> list[Difference]:
    """The fields in which two records differ; equal ones are left out.

    Args:
        record: Of a checkpoint.
        now: Of the run at hand, see `record_of`.
        use: 'test' compares the model and the classes, 'resume' everything.
        fixed: Dotted names of the config that the user set, which a record never overrides.
    """
    same_recipe = record["recipe_hash"] == now["recipe_hash"]
    found = []
    record, now = _named_encoder(record, now)
    for field in dict.fromkeys([*leaves(record), *leaves(now)]):
        if not _counts(field, use):
            continue
        recorded, value = value_of(record, field), value_of(now, field)
        if not _equal(recorded, value):
            kind = _kind(field, recorded, value, use, same_recipe and not is_fixed(field, fixed))
            found.append(Difference(field, recorded, value, kind))
    return found


def changes_of(recipe: Any, now: Any, name: str = "") -> list[dict[str, Any]]:
    """What options made of a recipe; a part of another type is one change.

    Args:
        recipe, now: See `settings_of`, before the first change and after the last.
        name: Of what is compared.

    Returns:
        field: Dotted. recipe, now: Its values; None where it is not set.
    """
    both = (recipe, now)
    if all(isinstance(v, Mapping) for v in both) and recipe.get("type") == now.get("type"):
        dots = f"{name}." if name else ""
        keys = dict.fromkeys([*recipe, *now])
        parts = [changes_of(recipe.get(key), now.get(key), f"{dots}{key}") for key in keys]
        return [change for part in parts for change in part]
    if all(_holds_parts(v) for v in both) and len(recipe) == len(now):
        pairs = enumerate(zip(recipe, now, strict=True))
        return [c for i, (old, new) in pairs for c in changes_of(old, new, f"{name}.{i}")]
    return [] if _equal(recipe, now) else [dict(field=name, recipe=recipe, now=now)]


def _holds_parts(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(part, Mapping) for part in value)


def forgotten(record: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Options of the recorded command that this one is without, as a user writes them."""
    given = {name: v for name, v in record["options"].items() if name not in now["options"]}
    return " ".join(
        f"--{name.replace('_', '-')} {shlex.quote(str(v))}" for name, v in given.items()
    )


def is_fixed(field: str, fixed: Collection[str]) -> bool:
    """Whether the user set a field, a part of it, or what it is a part of.

    Args:
        field: Of a record. fixed: Of the config.
    """
    names = _CONFIG_NAMES.get(field, (field.removeprefix("settings."),))
    if field == "model.num_classes":  # of every head
        names = tuple(name for name in fixed if name.endswith(".num_classes"))
    return any(
        name == given or name.startswith(f"{given}.") or given.startswith(f"{name}.")
        for name in names
        for given in fixed
    )


def _kind(field: str, recorded: Any, now: Any, use: Use, record_wins: bool) -> Kind:
    if field.startswith(_HARMLESS) or field.endswith(".root"):
        return Kind.HARMLESS
    if field.endswith(".extensions") and None in (recorded, now):
        return Kind.HARMLESS  # other images would be another data set, which has a hash
    if use == "test" and field.rpartition(".")[2] in _TRAINING_ONLY:
        return Kind.HARMLESS
    if field.startswith("model.") and record_wins and not field.startswith(_WIDTHS):
        return Kind.KNOWN
    if field.startswith("encoder.") and recorded is None:
        return Kind.HARMLESS  # a file that is gone has no checksum
    is_known_here = field.startswith(("settings.", "model."))
    return Kind.KNOWN if now is None and not is_known_here else Kind.CONTRADICTION


def _named_encoder(*records: dict[str, Any]) -> list[dict[str, Any]]:
    """Where one of them had weights and the other none, these are known by their name alone."""
    encoders = [record["encoder"] for record in records]
    if all(encoders):
        return [*records]
    names = [encoder and encoder["source"] for encoder in encoders]
    return [record | dict(encoder=name) for record, name in zip(records, names, strict=True)]


def _counts(field: str, use: Use) -> bool:
    """Whether a field is compared at all."""
    if field.partition(".")[0] in _NAMES or field.startswith(_REPEATED):
        return False
    return use == "resume" or field.startswith(("model.", "classes"))


def leaves(node: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Dotted names of all values; a list is a value unless it holds dicts."""
    for key, value in node.items():
        if isinstance(value, list) and any(isinstance(part, dict) for part in value):
            value = {str(i): part for i, part in enumerate(value)}
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{name}{key}.")
        else:
            yield f"{name}{key}"


def value_of(node: Any, field: str) -> Any:
    for key in field.split("."):
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


def _equal(a: Any, b: Any) -> bool:
    """Numbers are equal up to rounding: statistics are written in 0-1 and in 0-255."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if type(a) in (int, float) and type(b) in (int, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return bool(a == b) or (not a and not b and a in (None, {}, []) and b in (None, {}, []))
