"""What a protocol gives: numbers, with the interval and the draws that go with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milan_mm.evaluation.frozen.intervals import mean_interval
from milan_mm.evaluation.voting import hits

METRICS = {"top-1": 1, "top-5": 5}
DECIMALS = 4


@dataclass(frozen=True)
class Measured:
    """A number of a row, in the unit of its metric.

    Attributes:
        value: None where it is undefined.
        interval: 95 %, bootstrapped over the test images; None where there is none.
        draws: The values of the draws of which `value` is the mean.
        chosen: Hyperparameters that were chosen on a part of the training images.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    draws: Sequence[float] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """The keys of its row, see milan_mm/evaluation/row_schema.py."""
        found: dict[str, Any] = dict(value=_rounded(self.value))
        if self.interval is not None:
            found["interval"] = [_rounded(end) for end in self.interval]
        if self.draws:
            found["draws"] = [_rounded(value) for value in self.draws]
        if self.chosen:
            found["chosen"] = dict(self.chosen)
        return found


def measured_hits(right: Sequence[Tensor], chosen: Mapping[str, Any] | None = None) -> Measured:
    """The share in % of right answers, as the mean over draws of the training images.

    Args:
        right: (N,) bool for each draw.
    """
    shares = torch.stack([each.cpu().double() for each in right])  # (draws, N)
    low, high = mean_interval(shares.mean(dim=0).numpy())
    values = (100 * shares.mean(dim=1)).tolist()
    return Measured(
        value=100 * shares.mean().item(),
        interval=(100 * low, 100 * high),
        draws=values if len(values) > 1 else (),
        chosen=chosen or {},
    )


def top_1_and_5(
    predictions: Tensor,
    labels: Tensor,
    num_classes: int,
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, Measured]:
    """Top-1 and top-5; the latter is undefined for fewer than 5 classes, where it would be 100 %.

    Args:
        predictions: (N, min(5, num_classes)) int64, by falling score. labels: (N,) int64.
    """
    return {
        name: measured_hits([hits(predictions, labels, k)], chosen)
        if k <= num_classes
        else Measured(None, chosen=chosen or {})
        for name, k in METRICS.items()
    }


def share_interval(value: float | None, images: int) -> tuple[float, float] | None:
    """The interval of an accuracy in %, from which the number of right answers follows.

    Args:
        value: Rounded to `DECIMALS`. images: That were tested.

    Returns:
        Its ends; None where the value is undefined, or not a share of so many images.
    """
    if value is None:
        return None
    right = round(value / 100 * images)
    if abs(100 * right / images - value) > 10**-DECIMALS:
        return None
    low, high = mean_interval(np.arange(images) < right)
    return round(100 * low, DECIMALS), round(100 * high, DECIMALS)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
