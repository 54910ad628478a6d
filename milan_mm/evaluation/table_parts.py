"""What tables of results consist of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from milan_mm.evaluation.tasks import DATA_NAMES, TASKS, metric_of


class Trial(NamedTuple):
    """A task on a data set; `img_size` in pixels separates finetuning at 224 and at 384."""

    task: str
    data: str
    img_size: int | None

    @property
    def title(self) -> str:
        """As tables call it."""
        return self.called(TASKS[self.task].verb)

    def called(self, what: str) -> str:
        """Its data and something of it, e.g. what is done with them."""
        pixels = f"{self.img_size} px" if self.img_size else ""
        return " ".join(filter(None, (self.data, what, self._like, pixels)))

    @property
    def _like(self) -> str:
        """Whose recipe own data were given to, where several would have one title."""
        own = TASKS[self.task]
        if self.data in DATA_NAMES:
            return ""
        first = next(
            task
            for task in TASKS.values()
            if (task.verb, task.data.kind) == (own.verb, own.data.kind)
        )
        return "" if own.data == first.data else f"as {own.data.name}"


class Column(NamedTuple):
    """One metric of a trial."""

    trial: Trial
    metric: str

    @property
    def title(self) -> str:
        """As a table's head shows it, with the unit of what is not in %."""
        metric = metric_of(self.trial.task, self.trial.data, self.metric)
        if metric.title:
            return self.trial.called(metric.title)
        shown = f" ({metric.unit})" if metric.unit and "%" not in metric.unit else ""
        return f"{self.trial.title} {self.metric}{shown}"


class Group(NamedTuple):
    """What numbers that may be ranked together have in common."""

    trial: Trial
    protocol: str
    protocol_hash: str
    data_counts: tuple[tuple[str, int], ...]
    data_hash: tuple[tuple[str, str], ...] = ()

    @property
    def with_any_data(self) -> "Group":
        """The same for all data of this name and these counts."""
        return self._replace(data_hash=())


@dataclass
class Entry:
    """One number of a cell, over repeated runs.

    Attributes:
        mean, low, high: In the metric's unit; None where it was undefined.
        runs: How many. values: Of each, but for undefined ones.
        mark: Letter of its group where the table has several groups of the task, else ''.
        span: Lowest and highest number that it may be: of intervals, draws and repeated runs; None
            for a single number without an interval.
        interval: Of 95 %, where the protocol gives one; of several runs, from the lowest end to the
            highest.
        draws: Number of subsets that the value is the mean of; 0 without draws.
        draw_range: Lowest and highest value of these.
        best: Whether no other line is better, in its group, as far as spans allow to say so; never
            in a short protocol.
        difference: To the published number, in points, where the two may be compared.
        digits: After the point, see `Metric`.
    """

    group: Group
    mean: float | None
    low: float | None
    high: float | None
    runs: int
    values: tuple[float, ...] = ()
    span: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    draws: int = 0
    draw_range: tuple[float, float] | None = None
    mark: str = ""
    best: bool = False
    difference: float | None = None
    digits: int = 1

    def shown(self, value: float | None) -> str:
        """A number of this metric in a table."""
        return "" if value is None else f"{value:.{self.digits}f}"


@dataclass
class TableCell:
    """What a line has in a column: no entries mean "not run", no published number "none"."""

    entries: list[Entry] = field(default_factory=list)
    published: float | None = None


@dataclass
class Line:
    """One encoder, or a method of the paper of which nothing was run.

    Attributes:
        weights, sha256: Of the encoder's file, '' for a line of the paper.
    """

    method: str
    weights: str
    sha256: str
    cells: list[TableCell]


@dataclass
class Table:
    """All encoders of one architecture."""

    arch: str
    columns: list[Column]
    lines: list[Line]
    notes: list[str]


def is_whole(group: Group) -> bool:
    """Whether the data are those of the paper, and the recipe is of paper length."""
    task, data, _ = group.trial
    whole = TASKS[task].whole
    if group.protocol != "paper" or not whole or data != TASKS[task].data.name:
        return False
    counts = dict(group.data_counts)
    train, val = whole
    return counts.get("train", 0) >= train and counts.get("val") == val


def trial_of(row: Mapping) -> Trial:
    """Where a row belongs, but for its metric."""
    return Trial(row["task"], row["data"], _img_size(row))


def _img_size(row: Mapping) -> int | None:
    if row["task"] != "finetune":
        return None
    found = re.search(r"-(\d+)x\1$", row["config"])
    return int(found[1]) if found else 224


def group_of(row: Mapping) -> Group:
    """What a row may be ranked with."""
    counts = tuple(sorted(row["data_counts"].items()))
    hashes = tuple(sorted((row.get("data_hash") or {}).items()))
    return Group(trial_of(row), row["protocol"], row["protocol_hash"], counts, hashes)
