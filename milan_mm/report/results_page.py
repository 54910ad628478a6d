"""The page of a results file: a table for each architecture, dots for runs, and every row."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import mean

from markupsafe import Markup

from milan_mm.evaluation.table_parts import (
    Column,
    Entry,
    Group,
    Line,
    Table,
    TableCell,
    is_whole,
)
from milan_mm.evaluation.tables import make_tables
from milan_mm.evaluation.tasks import metric_of
from milan_mm.report.axes import duration
from milan_mm.report.dots import DotRow, dot_plot
from milan_mm.report.page import (
    EMPTY,
    Cell,
    Row,
    Section,
    bullets,
    command,
    details,
    join,
    page,
    paragraph,
    table,
    tiles,
)
from milan_mm.text import count

_DIGITS = 8  # of a checksum


def results_page(rows: Sequence[Mapping], name: str, remarks: Sequence[str] = ()) -> str:
    """The page of the rows of a results file.

    Args:
        rows: See `milan_mm.evaluation.results.read_results`.
        name: Of the file.
        remarks: On the file, see `milan_mm.evaluation.results.remarks_on`.

    Raises:
        UserError: See `make_tables`.
    """
    tables = make_tables(rows)
    sections = []
    for i, one in enumerate(tables):
        body = join([_table(one), bullets(one.notes), _plots(one)])
        sections.append(Section(f"table-{i}", one.arch, body))
    sections.append(Section("commands", "Commands", _commands(rows)))
    sections.append(Section("rows", "Rows", _rows(rows)))
    times = sorted(str(row["time"])[:16].replace("T", " ") for row in rows)
    encoders = {(row["method"], row["weights_sha256"]) for row in rows}
    head = join(
        [
            bullets(remarks),
            tiles(
                [
                    ("encoders", str(len(encoders)), ""),
                    ("numbers", str(len(rows)), " to ".join(dict.fromkeys((times[0], times[-1])))),
                    ("time", duration(timedelta(seconds=sum(_seconds(rows)))), "of all runs"),
                ]
            ),
            paragraph(
                "Mean of the runs or draws and their range, and the 95 % interval where there is "
                "one. In bold are the best, and those that cannot be told from them. Published "
                "numbers are grey; the difference to them is given where protocol and data are the "
                "paper's.",
                note=True,
            ),
        ]
    )
    return page(f"Evaluation: {name}", head, sections)


def _seconds(rows: Sequence[Mapping]) -> list[float]:
    """Of each run once, which has a row for each metric."""
    runs = {
        (row["weights_sha256"], row["task"], row["config_hash"], row["seed"], row["time"]): row
        for row in rows
    }
    return [row["seconds"] for row in runs.values()]


def _table(found: Table) -> Markup:
    head = ["method", *(column.title for column in found.columns)]
    own = [line for line in found.lines if line.weights]
    paper = [line for line in found.lines if not line.weights]
    lines = [_line(line) for line in own]
    if paper:
        lines.append(Row(["published, not run here"]))
        lines += [_line(line) for line in paper]
    return table(head, lines)


def _line(line: Line) -> Row:
    name = Markup("{}").format(line.method)
    if line.weights:
        name = Markup('{}<span class="paper">{}</span>').format(line.method, line.weights)
    return Row([Cell(name), *(_cell(cell, line) for cell in line.cells)])


def _cell(cell: TableCell, line: Line) -> Cell:
    published = "" if cell.published is None else f"{cell.published:.1f}"
    if not line.weights:
        return Cell(Markup('<span class="paper">{}</span>').format(published))
    entries = [_entry(entry) for entry in cell.entries]
    differences = [e.difference for e in cell.entries if e.difference is not None]
    text = Markup("<br>").join(entries) if entries else Markup('<span class="paper">not run</span>')
    if published:
        beside = f"published {published}" + "".join(f" ({d:+.1f})" for d in differences)
        text += Markup('<span class="paper">{}</span>').format(beside)
    return Cell(text)


def _entry(entry: Entry) -> Markup:
    if entry.mean is None:
        return Markup("undefined")
    number = entry.shown(entry.mean)
    text = Markup("<b>{}</b>").format(number) if entry.best else Markup(number)
    if entry.mark:
        text += Markup(" ({})").format(entry.mark)
    if entry.runs > 1:
        said = f"{entry.shown(entry.low)} to {entry.shown(entry.high)}, {count(entry.runs, 'run')}"
        text += Markup('<span class="paper">{}</span>').format(said)
    if entry.draw_range:
        low, high = map(entry.shown, entry.draw_range)
        said = f"{low} to {high}, {count(entry.draws, 'draw')}"
        text += Markup('<span class="paper">{}</span>').format(said)
    if entry.interval:
        text += Markup('<span class="paper">[{}, {}]</span>').format(
            *map(entry.shown, entry.interval)
        )
    return text


def _plots(found: Table) -> Markup:
    """A picture for each metric and protocol; published numbers only where they compare."""
    figures = []
    for i, column in enumerate(found.columns):
        cells = [(line, line.cells[i]) for line in found.lines]
        groups = dict.fromkeys(e.group for _, cell in cells for e in cell.entries if e.values)
        figures += [_plot(column, group, cells) for group in groups]
    if not figures:
        return EMPTY
    note = paragraph(
        "Dots are runs, a line spans their range, their draws and their 95 % intervals, diamonds "
        "are published numbers. The best mean is on top.",
        note=True,
    )
    return join(['<div class="charts">', *figures, "</div>", note])


def _plot(column: Column, group: Group, cells: Sequence[tuple[Line, TableCell]]) -> Markup:
    compares = is_whole(group)
    rows = []
    mark = ""
    for line, cell in cells:
        entries = [entry for entry in cell.entries if entry.group == group]
        values = [value for entry in entries for value in entry.values]
        mark = mark or "".join(entry.mark for entry in entries[:1])
        published = cell.published if compares else None
        if values or published is not None:
            ends = [end for entry in entries for end in entry.span or ()]
            span = (min(ends), max(ends)) if ends else None
            rows.append(DotRow(line.method, values, published, span))
    metric = metric_of(column.trial.task, column.trial.data, column.metric)
    rows.sort(key=_height, reverse=not metric.lower_is_better)
    note = f"protocol {group.protocol} {group.protocol_hash[:_DIGITS]}"
    counts = ", ".join(f"{n:,} {split}" for split, n in group.data_counts)
    title = column.title + (f" ({mark})" if mark else "")
    return dot_plot(title, f"{note}, {counts} images", metric.unit, rows)


def _height(row: DotRow) -> float:
    """Its mean, by which the table ranks it; the published number where nothing was run."""
    return mean(row.values or [row.published or 0.0])


def _commands(rows: Sequence[Mapping]) -> Markup:
    """Each command once, with the number of its rows."""
    found: dict[str, int] = {}
    for row in rows:
        if row.get("command"):
            found[row["command"]] = found.get(row["command"], 0) + 1
    parts = [
        join([paragraph(f"{count(number, 'row')}:", note=True), command(text)])
        for text, number in found.items()
    ]
    if (unknown := len(rows) - sum(found.values())) and found:
        parts.append(paragraph(f"{count(unknown, 'row')} of earlier versions: not recorded.", True))
    return join(parts)


def _rows(rows: Sequence[Mapping]) -> Markup:
    head = ["method", "task", "metric", "value", "data", "recipe", "protocol", "batch", "precision"]
    head += ["seed", "seconds", "weights", "commit", "time"]
    lines = [
        [
            str(row["method"]),
            row["task"],
            row["metric"],
            _value(row),
            row["data"],
            row["config"],
            f"{row['protocol']} {row['protocol_hash'][:_DIGITS]}",
            str(row["total_batch"] or ""),
            row["precision"],
            str(row["seed"]),
            f"{row['seconds']:,.0f}",
            f"{row['weights']} {row['weights_sha256'][:_DIGITS]}",
            str(row["commit"] or "unknown"),
            str(row["time"]),
        ]
        for row in rows
    ]
    return details(count(len(rows), "row"), table(head, lines, numbers=False))


def _value(row: Mapping) -> str:
    """A number with a digit more than in the table where that has one."""
    if row["value"] is None:
        return "undefined"
    digits = metric_of(row["task"], row["data"], row["metric"]).digits
    return f"{row['value']:.{max(digits, 2)}f}"
