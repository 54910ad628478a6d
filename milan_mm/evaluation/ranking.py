"""Which number of a column is the best, as far as their intervals allow to say so."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from milan_mm.evaluation.table_parts import Column, Entry, Group, Line
from milan_mm.evaluation.tasks import metric_of


def entry_of(group: Group, runs: Sequence[Mapping], mark: str = "") -> Entry:
    """One number from repeated runs.

    Args:
        runs: Rows of one group and one config, a row for each seed.
        mark: See `Entry`.
    """
    known = [row for row in runs if row["value"] is not None]
    entry = Entry(group, None, None, None, runs=len(runs), mark=mark)
    if not known:
        return entry
    row = known[0]
    entry.digits = metric_of(row["task"], row["data"], row["metric"]).digits
    entry.values = tuple(row["value"] for row in known)
    entry.mean, entry.low, entry.high = mean(entry.values), min(entry.values), max(entry.values)
    draws = [value for row in known for value in row.get("draws", ())]
    ends = [end for row in known for end in row.get("interval", ())]
    if draws:
        entry.draws, entry.draw_range = len(draws), (min(draws), max(draws))
    if all("interval" in row for row in known):
        entry.interval = min(ends), max(ends)
    if draws or ends or len(known) > 1:
        every = (*draws, *ends, *entry.values)
        entry.span = min(every), max(every)
    return entry


def mark_best(columns: Sequence[Column], lines: Sequence[Line]) -> None:
    """Mark the best mean of each column and group, and those whose spans overlap with its own.

    What short runs give measures nothing, and is not ranked.
    """
    for column, *cells in zip(columns, *(line.cells for line in lines), strict=True):
        metric = metric_of(column.trial.task, column.trial.data, column.metric)
        groups: dict[Group, list[Entry]] = {}
        for entry in (entry for cell in cells for entry in cell.entries):
            if entry.mean is not None and entry.group.protocol != "short":
                groups.setdefault(entry.group, []).append(entry)
        for entries in groups.values():
            first = _best(entries, metric.lower_is_better)
            for entry in entries:
                entry.best = len(entries) > 1 and _ties(entry, first)


def are_tied(lines: Iterable[Line]) -> bool:
    """Whether any column has several entries of a group that are marked as the best."""
    for cells in zip(*(line.cells for line in lines), strict=True):
        groups = [entry.group for cell in cells for entry in cell.entries if entry.best]
        if len({*groups}) < len(groups):
            return True
    return False


def _best(entries: Sequence[Entry], lower_is_better: bool) -> Entry:
    choose = min if lower_is_better else max
    return choose(entries, key=lambda entry: entry.mean or 0.0)


def _ties(entry: Entry, first: Entry) -> bool:
    if entry.mean == first.mean:
        return True
    if entry.span is None or first.span is None:
        return False
    return entry.span[0] <= first.span[1] and first.span[0] <= entry.span[1]
