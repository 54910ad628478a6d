"""From results to tables of methods and tasks, next to the published numbers.

Only numbers of one group are ranked: equal task, protocol hash and data; and only as far as their
intervals do not overlap. A difference to a
published number is taken where the protocol is 'paper' and the data are whole.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from milan_mm.errors import UserError
from milan_mm.evaluation.published import Published, plain_name, published
from milan_mm.evaluation.ranking import are_tied, entry_of, mark_best
from milan_mm.evaluation.table_notes import notes_on
from milan_mm.evaluation.table_parts import (
    Column,
    Entry,
    Group,
    Line,
    Table,
    TableCell,
    Trial,
    group_of,
    is_whole,
    trial_of,
)
from milan_mm.evaluation.tasks import DATA_NAMES, TASKS, metric_of, metrics_of

_ARCHS = dict(small="S", base="B", large="L", huge="H")


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
    return Column(trial_of(row), row["metric"])


def _with_hashes(rows: Sequence[Mapping]) -> list[Mapping]:
    """Let rows of version 0.1, which do not identify their data, join rows that do.

    Only on a published data set, and where these are all of one.
    """
    known: dict[Group, set[tuple]] = {}
    for group in map(group_of, rows):
        known.setdefault(group.with_any_data, set()).add(group.data_hash)
    joined: list[Mapping] = []
    for row in rows:
        others = known[group_of(row).with_any_data] - {()}
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
    mark_best(columns, lines)
    lines += _paper_lines(lines, columns, numbers)
    notes = notes_on(arch, rows, marks, are_tied(lines), bool(numbers))
    return Table(arch, columns, lines, notes)


def _column_of_number(number: Published) -> Column:
    size = number.img_size if number.task == "finetune" else None
    return Column(Trial(number.task, TASKS[number.task].data.name, size), number.metric)


def _column_order(column: Column) -> tuple[int, bool, str, int, int]:
    """Tasks as in their table, each on its published data first."""
    task, data, img_size = column.trial
    place = metrics_of(task, data).index(metric_of(task, data, column.metric))
    own = data != TASKS[task].data.name
    return list(TASKS).index(task), own, data, img_size or 0, place


def _marks(rows: Iterable[Mapping]) -> dict[Group, str]:
    """A letter for each group of a trial that has several; '' for the only one."""
    of_trial: dict[Trial, list[Group]] = {}
    for row in rows:
        group = group_of(row)
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
    repeats: dict[tuple[Group, str], dict[int, Mapping]] = {}
    for row in rows:
        repeats.setdefault((group_of(row), row["config_hash"]), {})[row["seed"]] = row
    return [
        entry_of(group, list(runs.values()), marks[group]) for (group, _), runs in repeats.items()
    ]


def _published_value(numbers: list[Published], method: str, column: Column) -> float | None:
    for number in numbers:
        same = plain_name(number.method) == plain_name(method)
        if same and _column_of_number(number) == column:
            return number.value
    return None


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
