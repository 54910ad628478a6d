"""The protocols on frozen features of whole images, by the names that --tasks takes."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from milan_mm.evaluation.frozen.grids import Attentive, LinearGrid
from milan_mm.evaluation.frozen.neighbours import ManyVotes, Vote
from milan_mm.evaluation.frozen.protocol import FrozenProtocol
from milan_mm.evaluation.frozen.regression import FewShot, FewShotVote, Regression, SmallShare

PROTOCOLS: Mapping[str, FrozenProtocol] = {
    "knn": Vote(),
    "knn-grid": ManyVotes(),
    "logreg": Regression(),
    "few-shot": FewShot(),
    "few-shot-knn": FewShotVote(),
    "low-data": SmallShare(),
    "linear-grid": LinearGrid(),
    "attentive": Attentive(),
}


def with_options(options: Mapping[str, Any]) -> dict[str, FrozenProtocol]:
    """The protocols with the fields that a user has set, wherever one has a field of that name.

    Args:
        options: By name of the field; None changes nothing.
    """
    found: dict[str, FrozenProtocol] = {}
    for name, protocol in PROTOCOLS.items():
        assert is_dataclass(protocol)
        own = {field.name for field in fields(protocol)}
        given = {key: v for key, v in options.items() if v is not None and key in own}
        found[name] = replace(protocol, **given)
    return found


def frozen(tasks: Iterable[str]) -> list[str]:
    """Those of some tasks that are protocols of this table."""
    return [name for name in tasks if name in PROTOCOLS]
