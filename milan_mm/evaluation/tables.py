"""From results to tables of methods and tasks, next to the published numbers.

Only numbers of one group are ranked: equal task, protocol hash and data. A difference to a
published number is taken where the protocol is 'paper' and the data are whole.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import NamedTuple

from milan_mm.errors import UserError
from milan_mm.evaluation.published import Published, plain_name, published, source
from milan_mm.evaluation.tasks import DATA_NAMES, PATCH_SIZE, TASKS, metric_of

_ARCHS = dict(small="S", base="B", large="L", huge="H")


class Trial(NamedTuple):
    """A task on a data set; `img_size` in pixels separates finetuning at 224 and at 384."""

    task: str
    data: str
    img_size: int | None

    @property
    def title(self) -> str:
        """As tables call it."""
        pixels = f"{self.img_size} px" if self.img_size else ""
        return " ".join(filter(None, (self.data, TASKS[self.task].verb, pixels)))


class Column(NamedTuple):
    """One metric of a trial."""

    trial: Trial
    metric: str

    @property
    def title(self) -> str:
        """As a table's head shows it."""
        return f"{self.trial.title} {self.metric}"


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
        mean, low, high: In %; None where the metric was undefined.
        runs: How many. values: Of each, in %, but for undefined ones.
        mark: Letter of its group where the table has several groups of the task, else ''.
        best: Whether no other line is better, in its group; never in a short protocol.
        difference: To the published number, in points, where the two may be compared.
    """

    group: Group
    mean: float | None
    low: float | None
    high: float | None
    runs: int
    values: tuple[float, ...] = ()
    mark: str = ""
    best: bool = False
    difference: float | None = None


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


def make_tables(rows: Sequence[Mapping]) -> list[Table]:
    """One table for each architecture, those of the paper first.

    Args:
        rows: Of `read_results`.

    Raises:
        UserError: When there are no rows.
    """
    if not rows:
        raise UserError("the results file has no rows: run tools/evaluate.py first")
    rows = _with_hashes(rows)
    archs = sorted({arch_of(row["config"]) for row in rows}, key=_arch_order)
    return [_table(arch, [row for row in rows if arch_of(row["config"]) == arch]) for arch in archs]


def arch_of(config: str) -> str:
    """'ViT-B/16' for a recipe with vit-base-p16 in its name; 'other' where no name says it."""
    found = re.search(r"vit-([a-z0-9]+)-p(\d+)", config)
    return f"ViT-{_ARCHS.get(found[1], found[1])}/{found[2]}" if found else "other"


def column_of(row: Mapping) -> Column:
    """Where a row belongs."""
    return Column(_trial(row), row["metric"])


def _trial(row: Mapping) -> Trial:
    return Trial(row["task"], row["data"], _img_size(row))


def _img_size(row: Mapping) -> int | None:
    if row["task"] != "finetune":
        return None
    found = re.search(r"-(\d+)x\1$", row["config"])
    return int(found[1]) if found else 224


def _group_of(row: Mapping) -> Group:
    counts = tuple(sorted(row["data_counts"].items()))
    hashes = tuple(sorted((row.get("data_hash") or {}).items()))
    return Group(_trial(row), row["protocol"], row["protocol_hash"], counts, hashes)


def _with_hashes(rows: Sequence[Mapping]) -> list[Mapping]:
    """Let rows of version 0.1, which do not identify their data, join rows that do.

    Only on a published data set, and where these are all of one.
    """
    known: dict[Group, set[tuple]] = {}
    for group in map(_group_of, rows):
        known.setdefault(group.with_any_data, set()).add(group.data_hash)
    joined: list[Mapping] = []
    for row in rows:
        others = known[_group_of(row).with_any_data] - {()}
        joins = row["data"] in DATA_NAMES and len(others) == 1
        joined.append(dict(row, data_hash=dict(*others)) if joins else row)
    return joined


def _arch_order(arch: str) -> tuple[bool, str]:
    return arch not in {number.arch for number in published()}, arch


def _table(arch: str, rows: list[Mapping]) -> Table:
    numbers = [number for number in published() if number.arch == arch]
    used = {column_of(row) for row in rows} | {_column_of_number(number) for number in numbers}
    columns = sorted(used, key=_column_order)
    marks = _marks(rows)
    lines = _own_lines(rows, columns, marks, numbers)
    _mark_best(columns, lines)
    lines += _paper_lines(lines, columns, numbers)
    return Table(arch, columns, lines, _notes(arch, rows, marks, bool(numbers)))


def _column_of_number(number: Published) -> Column:
    size = number.img_size if number.task == "finetune" else None
    return Column(Trial(number.task, TASKS[number.task].data.name, size), number.metric)


def _column_order(column: Column) -> tuple[int, bool, str, int, int]:
    """Tasks as in their table, each on its published data first."""
    task, data, img_size = column.trial
    place = TASKS[task].metrics.index(metric_of(task, column.metric))
    own = data != TASKS[task].data.name
    return list(TASKS).index(task), own, data, img_size or 0, place


def _marks(rows: Iterable[Mapping]) -> dict[Group, str]:
    """A letter for each group of a trial that has several; '' for the only one."""
    of_trial: dict[Trial, list[Group]] = {}
    for row in rows:
        group = _group_of(row)
        groups = of_trial.setdefault(group.trial, [])
        if group not in groups:
            groups.append(group)
    return {
        group: chr(ord("a") + i) if len(groups) > 1 and i < 26 else str(i) * (len(groups) > 1)
        for groups in of_trial.values()
        for i, group in enumerate(groups)
    }


def _own_lines(
    rows: list[Mapping],
    columns: list[Column],
    marks: dict[Group, str],
    numbers: list[Published],
) -> list[Line]:
    order = {plain_name(number.method): i for i, number in reversed(list(enumerate(numbers)))}
    # a file may have been renamed, its checksum stays
    names = {(row["method"], row["weights_sha256"]): row["weights"] for row in reversed(rows)}
    encoders = [(method, weights, sha256) for (method, sha256), weights in names.items()]
    ranked = sorted(encoders, key=lambda e: (order.get(plain_name(e[0]), len(order) + 99), e))
    lines = []
    for method, weights, sha256 in ranked:
        own = [r for r in rows if (r["method"], r["weights_sha256"]) == (method, sha256)]
        cells = []
        for column in columns:
            cell = TableCell(published=_published_value(numbers, method, column))
            cell.entries = _entries([r for r in own if column_of(r) == column], marks)
            for entry in cell.entries:
                if entry.mean is not None and cell.published is not None and is_whole(entry.group):
                    entry.difference = entry.mean - cell.published
            cells.append(cell)
        lines.append(Line(method, weights, sha256, cells))
    return lines


def _entries(rows: list[Mapping], marks: dict[Group, str]) -> list[Entry]:
    """Repeats are runs of one group and one config with several seeds; of one seed the last counts.

    Two evaluations that ran at the same time may have written the same cell twice.
    """
    repeats: dict[tuple[Group, str], dict[int, float | None]] = {}
    for row in rows:
        repeats.setdefault((_group_of(row), row["config_hash"]), {})[row["seed"]] = row["value"]
    entries = []
    for (group, _), by_seed in repeats.items():
        values = list(by_seed.values())
        known = [value for value in values if value is not None]
        entry = Entry(group, None, None, None, runs=len(values), mark=marks[group])
        if known:
            entry.mean, entry.low, entry.high = mean(known), min(known), max(known)
            entry.values = tuple(known)
        entries.append(entry)
    return entries


def is_whole(group: Group) -> bool:
    """Whether the data are those of the paper, and the recipe is of paper length."""
    task, data, _ = group.trial
    whole = TASKS[task].whole
    if group.protocol != "paper" or not whole or data != TASKS[task].data.name:
        return False
    counts = dict(group.data_counts)
    train, val = whole
    return counts.get("train", 0) >= train and counts.get("val") == val


def _published_value(numbers: list[Published], method: str, column: Column) -> float | None:
    for number in numbers:
        same = plain_name(number.method) == plain_name(method)
        if same and _column_of_number(number) == column:
            return number.value
    return None


def _mark_best(columns: list[Column], lines: list[Line]) -> None:
    """The best mean of each column and group; what short runs give measures nothing."""
    for column, *cells in zip(columns, *(line.cells for line in lines), strict=True):
        best_of = min if metric_of(column.trial.task, column.metric).lower_is_better else max
        groups: dict[Group, list[Entry]] = {}
        for cell in cells:
            for entry in cell.entries:
                if entry.mean is not None:
                    groups.setdefault(entry.group, []).append(entry)
        for entries in groups.values():
            best = best_of(entry.mean for entry in entries if entry.mean is not None)
            for entry in entries:
                ranked = len(entries) > 1 and entry.group.protocol != "short"
                entry.best = ranked and entry.mean == best


def _paper_lines(own: list[Line], columns: list[Column], numbers: list[Published]) -> list[Line]:
    """Methods of the paper of which nothing was run here."""
    run = {plain_name(line.method) for line in own}
    names = {number.method: None for number in numbers if plain_name(number.method) not in run}
    return [
        Line(
            name,
            "",
            "",
            [TableCell(published=_published_value(numbers, name, column)) for column in columns],
        )
        for name in names
    ]


def _notes(
    arch: str, rows: list[Mapping], marks: dict[Group, str], with_published: bool
) -> list[str]:
    notes = []
    for group, mark in marks.items():
        own = [row for row in rows if _group_of(row) == group]
        counts = ", ".join(f"{n:,} {split}" for split, n in group.data_counts)
        if sum(other.with_any_data == group.with_any_data for other in marks) > 1:
            counts += f" (data {' '.join(str(h)[:8] for _, h in group.data_hash) or 'unknown'})"
        batch = f", total batch {own[0]['total_batch']}" if own[0]["total_batch"] else ""
        precision = " and ".join(sorted({row["precision"] for row in own}))
        notes.append(
            f"{group.trial.title}{f' ({mark})' if mark else ''}: protocol "
            f"{group.protocol} {group.protocol_hash}{batch}, {precision}, {counts} images"
        )
    if any(marks.values()):
        notes.append(
            "Numbers with different letters come from different protocols or data and are not "
            "ranked together: the best (bold) is that of its letter."
        )
    if any(group.protocol == "own" for group in marks):
        notes.append(
            "The protocol 'own' is a recipe with another length or learning rate: its numbers are "
            "not compared with published ones."
        )
    if any(group.protocol == "short" for group in marks):
        notes.append(
            "The protocol 'short' shows that a recipe runs on these weights; its numbers are no "
            "measure of them: they are not ranked, nor compared with published ones."
        )
    dense = {group.trial.data for group in marks if TASKS[group.trial.task].data.kind != "classes"}
    if dense and (found := re.search(r"/(\d+)$", arch)) and int(found[1]) != PATCH_SIZE:
        notes.append(
            f"{' and '.join(sorted(dense))}: on patches of {PATCH_SIZE} pixels, to which the "
            f"encoder's of {found[1]} were resampled."
        )
    if with_published:
        notes.append(
            f"Published numbers are those of {source()}, not measured here; that paper does not "
            "state its settings for COCO and ADE20K. Differences are given where the protocol is "
            "'paper' and the data are whole."
        )
    commits = sorted({str(row["commit"]) for row in rows})
    if len(commits) > 1 or any(commit.endswith("-dirty") for commit in commits):
        notes.append(f"The rows were written by {len(commits)} version(s): {', '.join(commits)}")
    return notes
