"""Logistic regression whose C is chosen on held-out training images.

The grid and the steps are those of DINOv2's and DINOv3's eval/log_regression.py: 45 values of C
from 1e-6 to 1e5, the one with the best top-1 on a part of the training images, the smallest of
equals. Features are taken as they are. Their optimizers end after 1000 iterations, which leaves
large values of C unfinished; ours reaches the minimum.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from milan_mm.evaluation.features import find_device
from milan_mm.evaluation.frozen.logistic import Linear, LogisticRegression
from milan_mm.evaluation.frozen.rows import Rows
from milan_mm.evaluation.voting import TOP

POWERS = torch.linspace(-6, 5, 45, dtype=torch.float64).tolist()
_CHUNK = 8192


def choose(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    fit: Tensor,
    held: Tensor,
    step: Callable[[], object] = lambda: None,
) -> tuple[float, Linear]:
    """The best C, and the classifier that it gave.

    Args:
        features: (N, D) float, mapped. labels: (N,) int64.
        fit, held: Numbers of the images to fit to, and to choose by.
        step: Called after each C.
    """
    regression = LogisticRegression(rows_of(features, labels, fit), num_classes)
    judges = rows_of(features, labels, held)
    best: tuple[float, float, Linear] | None = None
    path: list[Linear] = []
    for power in POWERS:
        path = [*path[-1:], regression.fit(10**power, _next(path))]
        share = _accuracy(path[-1], judges)
        if best is None or share > best[0]:
            best = share, 10**power, path[-1]
        step()
    assert best
    return best[1:]


def refit(features: Tensor, labels: Tensor, num_classes: int, c: float, start: Linear) -> Linear:
    """The classifier of all training images for a chosen C."""
    return LogisticRegression(rows_of(features, labels), num_classes).fit(c, start)


def predict(classifier: Linear, features: Tensor, num_classes: int) -> Tensor:
    """(N, min(5, num_classes)) int64, classes by falling score, on the CPU."""
    device = find_device()
    return torch.cat(
        [
            classifier.scores(part.to(device, torch.float64))
            .topk(min(TOP, num_classes), dim=1)
            .indices.cpu()
            for part in features.split(_CHUNK)
        ]
    )


def rows_of(features: Tensor, labels: Tensor, index: Tensor | None = None) -> Rows:
    """Rows in float64, in which L-BFGS finds its way where differences are small."""
    return Rows(features, labels, index, torch.float64)


def _next(path: list[Linear]) -> Linear | None:
    """Where the next classifier of a path should be, by the last two: a start for its fit."""
    if len(path) < 2:
        return path[-1] if path else None
    before, last = path
    return Linear(2 * last.weight - before.weight, 2 * last.bias - before.bias)


def _accuracy(classifier: Linear, rows: Rows) -> float:
    right = sum((classifier.scores(x).argmax(dim=1) == y).sum() for x, y in rows)
    return float(right) / len(rows)
