"""Logistic regression on all training images, on few of each class, and on 1 % and 10 %."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.evaluation.frozen.choosing import POWERS, choose, predict, refit
from milan_mm.evaluation.frozen.logistic import MAX_ITERATIONS
from milan_mm.evaluation.frozen.measured import Measured, measured_hits, top_1_and_5
from milan_mm.evaluation.frozen.neighbours import vote
from milan_mm.evaluation.frozen.protocol import Features, PooledProtocol, TrainImages
from milan_mm.evaluation.frozen.subsets import draw, hold_out, read_list
from milan_mm.evaluation.recipes import Shape
from milan_mm.evaluation.voting import hits

SHOTS = (1, 2, 5, 10)
_CLOSE = 0.2  # how far the length of a list may be from its share
SHARES = {"1 %": 0.01, "10 %": 0.1}
DRAWS = 5
_GRID = dict(powers=[POWERS[0], POWERS[-1], len(POWERS)], iterations=MAX_ITERATIONS)


@dataclass(frozen=True)
class Regression(PooledProtocol):
    """Fit to all training images, with the C that is best on a tenth of them (DINOv2, DINOv3)."""

    held: float = 0.1

    @property
    def settings(self) -> dict[str, Any]:
        return dict(logistic=_GRID, held=self.held)

    @property
    def num_steps(self) -> int:
        return len(POWERS) + 1

    def check(self, train: TrainImages) -> None:
        _check_held(self.held, train)

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        pooling = self.feature(shape)
        train, val = features("train", pooling), features("val", pooling)
        data = train.last, train.labels, len(train.classes)
        c, classifier = choose(*data, *hold_out(train.labels, self.held), step)
        classifier = refit(*data, c, classifier)
        step()
        found = predict(classifier, val.last, len(val.classes))
        return top_1_and_5(found, val.labels, len(val.classes), dict(C=_shown(c)))


@dataclass(frozen=True)
class FewShot(PooledProtocol):
    """Fit to a few images of each class, drawn several times; the numbers are means over draws.

    As in DINOv3, C is chosen for each draw on 1 % of the training images, which are never drawn.

    Attributes:
        shots: Images of each class. draws: Of each number.
        held: Share of the training images to choose by, at least one of each class.
    """

    shots: tuple[int, ...] = SHOTS
    draws: int = DRAWS
    held: float = 0.01

    @property
    def settings(self) -> dict[str, Any]:
        return dict(logistic=_GRID, shots=list(self.shots), draws=self.draws, held=self.held)

    @property
    def num_steps(self) -> int:
        return len(POWERS) * self.draws * len(self.shots)

    def check(self, train: TrainImages) -> None:
        _check_held(self.held, train)
        fit, _ = hold_out(train.labels, self.held)
        check_shots(
            max(self.shots), train, train.labels[fit].bincount(), " beside those to choose C by"
        )

    def fitted(self, train: TrainImages) -> Self:
        fit, _ = hold_out(train.labels, self.held)
        most = int(train.labels[fit].bincount().min())
        return replace(self, shots=tuple(n for n in self.shots if n <= most))

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        pooling = self.feature(shape)
        labels = features("train", pooling).labels
        fit, held = hold_out(labels, self.held)
        return {
            f"{n}-shot": on_draws(
                features, pooling, [draw(labels, n, i, fit) for i in range(self.draws)], held, step
            )
            for n in self.shots
        }


@dataclass(frozen=True)
class FewShotVote(PooledProtocol):
    """k-NN among a few images of each class, k of them (DINOv2's eval/knn.py)."""

    shots: tuple[int, ...] = SHOTS
    draws: int = DRAWS
    temperature: float = 0.07

    @property
    def settings(self) -> dict[str, Any]:
        return dict(shots=list(self.shots), draws=self.draws, temperature=self.temperature)

    @property
    def num_steps(self) -> int:
        return self.draws * len(self.shots)

    def check(self, train: TrainImages) -> None:
        check_shots(max(self.shots), train, train.counts())

    def fitted(self, train: TrainImages) -> Self:
        most = int(train.counts().min())
        return replace(self, shots=tuple(n for n in self.shots if n <= most))

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        pooling, found = self.feature(shape), {}
        labels, judged = features("train", pooling).labels, features("val", pooling).labels
        for n in self.shots:
            right = []
            for i in range(self.draws):
                drawn = draw(labels, n, i)
                predictions = vote(features, pooling, (n,), self.temperature, drawn)[n]
                right.append(hits(predictions, judged, 1))
                step()
            found[f"{n}-shot"] = measured_hits(right)
        return found


@dataclass(frozen=True)
class SmallShare(PooledProtocol):
    """Fit to 1 % and 10 % of the training images: drawn several times, or those of a list.

    Attributes:
        draws, held: See `FewShot`.
        lists: By metric, numbers of images that a file lists; others are drawn.
    """

    draws: int = DRAWS
    held: float = 0.01
    lists: Mapping[str, Tensor] = field(default_factory=dict)

    def of_lists(self, paths: Iterable[Path], train: TrainImages) -> Self:
        """With the images that files list.

        Raises:
            MissingFileError, UserError: For a list that is not one of 1 % or 10 % of the images.
        """
        lists = {}
        for path in paths:
            numbers = read_list(path, train.names)
            share = len(numbers) / len(train.names)
            close = [name for name, s in SHARES.items() if abs(share / s - 1) < _CLOSE]
            if not close or close[0] in lists:
                again = " a second time" if close else ""
                raise UserError(
                    f"'{path}' lists {100 * share:.2g} % of the {len(train.names)} training "
                    f"images{again}: give one list of 1 % and one of 10 %"
                )
            lists[close[0]] = numbers
        return replace(self, lists=lists)

    @property
    def settings(self) -> dict[str, Any]:
        listed = {name: numbers.tolist() for name, numbers in self.lists.items()}
        return dict(logistic=_GRID, draws=self.draws, held=self.held, lists=listed)

    @property
    def num_steps(self) -> int:
        return len(POWERS) * sum(1 if name in self.lists else self.draws for name in SHARES)

    def check(self, train: TrainImages) -> None:
        _check_held(self.held, train)
        for name, numbers in self.lists.items():
            counts = train.labels[numbers].bincount(minlength=len(train.classes))
            if not counts.all():
                raise UserError(
                    f"the list of {name} has no image of class "
                    f"'{train.classes[int(counts.argmin())]}': every class needs one"
                )

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        pooling, found = self.feature(shape), {}
        labels = features("train", pooling).labels
        for name, share in SHARES.items():
            if name in self.lists:
                drawn, among = [self.lists[name]], others(len(labels), self.lists[name])
                _, held = hold_out(labels, self.held, among)
            else:
                fit, held = hold_out(labels, self.held)
                drawn = [draw(labels, share, i, fit) for i in range(self.draws)]
            found[name] = on_draws(features, pooling, drawn, held, step)
        return found


def on_draws(
    features: Features,
    pooling: str,
    draws: list[Tensor],
    held: Tensor,
    step: Callable[[], object],
) -> Measured:
    """Top-1, the mean over draws; C is chosen for each, and none is fitted to the held-out images.

    Args:
        draws: Numbers of the training images to fit to. held: Of those to choose by.
    """
    train, val = features("train", pooling), features("val", pooling)
    right, chosen = [], []
    for drawn in draws:
        c, classifier = choose(train.last, train.labels, len(train.classes), drawn, held, step)
        predictions = predict(classifier, val.last, len(val.classes))
        right.append(hits(predictions, val.labels, 1))
        chosen.append(_shown(c))
    return measured_hits(right, dict(C=chosen if len(chosen) > 1 else chosen[0]))


def check_shots(shots: int, train: TrainImages, counts: Tensor, beside: str = "") -> None:
    """Refuse more shots than a class has images.

    Args:
        counts: (classes,), images of each class that may be drawn. beside: What others are for.

    Raises:
        UserError: Names the class.
    """
    least = int(counts.argmin())
    if counts[least] < shots:
        raise UserError(
            f"{shots} images of each class are drawn, and class '{train.classes[least]}' of "
            f"{train.folder} has {int(counts[least])}{beside}: add images, or pass --shots with "
            "smaller numbers"
        )


def others(total: int, numbers: Tensor) -> Tensor:
    """All numbers below a total but some."""
    found = torch.ones(total, dtype=torch.bool)
    found[numbers] = False
    return found.nonzero()[:, 0]


def _check_held(held: float, train: TrainImages) -> None:
    if int(train.counts().max()) < 2:
        raise UserError(
            f"C is chosen on {held:.0%} of the training images, and each class of {train.folder} "
            "has a single one: add images, or leave this task out"
        )


def _shown(c: float) -> float:
    return float(f"{c:.6g}")
