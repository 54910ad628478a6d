"""k-NN: the published vote, many k in one pass, and few images of each class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.evaluation.features import find_device
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.measured import Measured, measured_hits, top_1_and_5
from milan_mm.evaluation.frozen.protocol import Features, PooledProtocol, TrainImages
from milan_mm.evaluation.recipes import Shape
from milan_mm.evaluation.voting import hits, neighbours, votes

KS = (1, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Vote(PooledProtocol):
    """DINO's weighted vote (arXiv 2104.14294): top-1 and top-5 for one k."""

    k: int = 20
    temperature: float = 0.07

    @property
    def settings(self) -> dict[str, Any]:
        return dict(k=self.k, temperature=self.temperature)

    def check(self, train: TrainImages) -> None:
        check_k(self.k, train)

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        pooling = self.feature(shape)
        val = features("val", pooling)
        found = vote(features, pooling, (self.k,), self.temperature)[self.k]
        step()
        return top_1_and_5(found, val.labels, len(val.classes))


@dataclass(frozen=True)
class ManyVotes(PooledProtocol):
    """The same vote by each of several k: top-1. The similarities are computed once."""

    ks: tuple[int, ...] = KS
    temperature: float = 0.07

    @property
    def settings(self) -> dict[str, Any]:
        return dict(ks=list(self.ks), temperature=self.temperature)

    def check(self, train: TrainImages) -> None:
        check_k(max(self.ks), train)

    def fitted(self, train: TrainImages) -> Self:
        return replace(self, ks=tuple(k for k in self.ks if k <= len(train.labels)))

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        pooling = self.feature(shape)
        val = features("val", pooling)
        found = vote(features, pooling, self.ks, self.temperature)
        step()
        return {f"k={k}": measured_hits([hits(found[k], val.labels, 1)]) for k in self.ks}


def check_k(k: int, train: TrainImages) -> None:
    """Refuse a k above the number of training images.

    Raises:
        UserError: When there are fewer.
    """
    if k > len(train.labels):
        raise UserError(
            f"k = {k} exceeds the {len(train.labels)} training images in {train.folder}: take "
            "more images, or leave this task out"
        )


def vote(
    features: Features,
    pooling: str,
    ks: tuple[int, ...],
    temperature: float,
    index: Tensor | None = None,
) -> dict[int, Tensor]:
    """(N, min(5, classes)) predictions for each k, by some of the training images, on the CPU.

    Args:
        index: (n,) int64, numbers of those; None takes all.
    """
    train, val = features("train", pooling), features("val", pooling)
    device = find_device()
    rows, labels = _rows(train, index)
    nearest = neighbours(rows, labels, val.last.to(device), max(ks), normalise=True)
    found = votes(*nearest, len(train.classes), ks, temperature)
    return {k: each.cpu() for k, each in found.items()}


def _rows(train: FeatureSet, index: Tensor | None) -> tuple[Tensor, Tensor]:
    if index is None:
        return train.last, train.labels
    return train.last[index], train.labels[index]
