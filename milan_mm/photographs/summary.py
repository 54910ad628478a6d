"""What several seeds say about an arm: mean, interval, and whether it may be ranked."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t

LEVEL = 0.95


@dataclass(frozen=True)
class Summary:
    """Runs that differ in their seed alone.

    Attributes:
        values: In %.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.values)

    @property
    def half_width(self) -> float:
        """Of the interval of the mean, by Student's t; infinite for a single seed."""
        count = len(self.values)
        if count < 2:
            return math.inf
        quantile = t.ppf((1 + LEVEL) / 2, count - 1)
        return float(quantile) * statistics.stdev(self.values) / math.sqrt(count)

    def overlaps(self, other: "Summary") -> bool:
        """Whether the two intervals share a number, so that the two are not ranked."""
        return abs(self.mean - other.mean) <= self.half_width + other.half_width

    def __str__(self) -> str:
        spread = "" if math.isinf(self.half_width) else f" ± {self.half_width:.1f}"
        return f"{self.mean:.1f}{spread}"


def summaries(rows: Sequence[Mapping], metric: str) -> dict[str, Summary]:
    """By arm, for those that have the metric."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["metric"] == metric:
            found.setdefault(row["arm"], []).append(row["value"])
    return {arm: Summary(tuple(values)) for arm, values in found.items()}


def best(found: Mapping[str, Summary]) -> set[str]:
    """The arm with the highest mean, and those whose interval overlaps with its own.

    Empty where some arm has a single seed, or where there is one arm.
    """
    if len(found) < 2 or any(len(one.values) < 2 for one in found.values()):
        return set()
    first = max(found.values(), key=lambda one: one.mean)
    return {arm for arm, one in found.items() if one is first or one.overlaps(first)}


def difference(before: Summary | None, after: Summary | None) -> str:
    """'+5.1', or '+0.4, not ranked' where the intervals overlap."""
    if before is None or after is None:
        return "not run"
    gain = f"{after.mean - before.mean:+.1f}"
    return f"{gain}, not ranked" if before.overlaps(after) else gain
