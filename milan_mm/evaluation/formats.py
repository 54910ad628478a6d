"""Tables of results as Markdown, CSV and LaTeX; what names may hold: milan_mm/escaping.py."""

import csv
from collections.abc import Sequence
from io import StringIO

from milan_mm.escaping import csv_cell, latex, markdown
from milan_mm.evaluation.table_parts import Entry, Line, Table, TableCell

FORMATS = ("markdown", "csv", "latex")
NOT_RUN, NOT_PUBLISHED, UNDEFINED = "not run", "none", "undefined"
_CSV_COLUMNS = (
    "arch",
    "method",
    "weights",
    "weights_sha256",
    "task",
    "data",
    "metric",
    "img_size",
    "origin",
    "mean",
    "min",
    "max",
    "runs",
    "draws",
    "draws_min",
    "draws_max",
    "interval_low",
    "interval_high",
    "best",
    "published",
    "difference",
    "protocol",
    "protocol_hash",
    "data_counts",
)


def render(tables: Sequence[Table], kind: str) -> str:
    """Write tables as text.

    Args:
        kind: One of `FORMATS`.
    """
    if kind == "csv":
        return _csv(tables)
    function = _latex if kind == "latex" else _markdown
    return "\n".join(function(table) for table in tables)


def _markdown(table: Table) -> str:
    head = ["method", "weights", *(column.title for column in table.columns)]
    head = [markdown(title) for title in head]
    lines = [f"## {markdown(table.arch)}", "", _row(head), _row(["---"] * len(head))]
    for line in table.lines:
        cells = [_text(cell, line, "**{}**") for cell in line.cells]
        names = [markdown(line.method), markdown(line.weights or "(published)")]
        lines.append(_row([*names, *cells]))
    lines += ["", *(f"- {markdown(note)}" for note in table.notes), ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex(table: Table) -> str:
    head = ["method", "weights", *(column.title for column in table.columns)]
    lines = [
        f"% {table.arch}; needs the package booktabs",
        rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(latex, head)) + r" \\",
        r"\midrule",
    ]
    for line in table.lines:
        names = [latex(line.method), latex(line.weights or "(published)")]
        cells = [_text(cell, line, r"\textbf{{{}}}") for cell in line.cells]
        lines.append(" & ".join([*names, *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par {latex(note)}" for note in table.notes]
    return "\n".join([*lines, ""])


def _text(cell: TableCell, line: Line, bold: str) -> str:
    """A cell in words: own numbers, then the published one."""
    if not line.weights:
        return NOT_PUBLISHED if cell.published is None else f"{cell.published:.1f}"
    own = "; ".join(_entry_text(entry, bold) for entry in cell.entries) or NOT_RUN
    if cell.published is None:
        return own
    differences = [e.difference for e in cell.entries if e.difference is not None]
    difference = "".join(f", {value:+.1f}" for value in differences)
    return f"{own} [published {cell.published:.1f}{difference}]"


def _entry_text(entry: Entry, bold: str) -> str:
    if entry.mean is None:
        return UNDEFINED
    text = entry.shown(entry.mean)
    text = bold.format(text) if entry.best else text
    if entry.mark:
        text += f" ({entry.mark})"
    if entry.runs > 1:
        text += f" ({entry.shown(entry.low)} to {entry.shown(entry.high)}, {entry.runs} runs)"
    if entry.draw_range:
        low, high = map(entry.shown, entry.draw_range)
        text += f" ({low} to {high}, {entry.draws} draws)"
    if entry.interval:
        text += " [{}, {}]".format(*map(entry.shown, entry.interval))
    return text


def _csv(tables: Sequence[Table]) -> str:
    file = StringIO()
    writer = csv.DictWriter(file, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for line in table.lines:
            for column, cell in zip(table.columns, line.cells, strict=True):
                facts = dict(
                    arch=table.arch,
                    method=line.method,
                    weights=line.weights,
                    weights_sha256=line.sha256,
                    **column.trial._asdict(),
                    metric=column.metric,
                    published=cell.published,
                )
                rows = [facts | _csv_entry(entry) for entry in cell.entries]
                rows = rows or [facts | dict(origin=_origin_without_runs(line, cell), runs=0)]
                for row in rows:
                    writer.writerow({key: csv_cell(value) for key, value in row.items()})
    return file.getvalue()


def _origin_without_runs(line: Line, cell: TableCell) -> str:
    if line.weights:
        return NOT_RUN
    return NOT_PUBLISHED if cell.published is None else "published"


def _csv_entry(entry: Entry) -> dict:
    group = entry.group
    difference, (low, high) = entry.difference, entry.interval or (None, None)
    least, most = entry.draw_range or (None, None)
    return dict(
        origin="measured",
        mean=entry.mean,
        min=entry.low,
        max=entry.high,
        runs=entry.runs,
        draws=entry.draws or None,
        draws_min=least,
        draws_max=most,
        interval_low=low,
        interval_high=high,
        best=int(entry.best),
        difference=None if difference is None else round(difference, 4),
        protocol=group.protocol,
        protocol_hash=group.protocol_hash,
        data_counts=" ".join(f"{split}={count}" for split, count in group.data_counts),
    )
