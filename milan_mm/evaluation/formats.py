"""Tables of results as Markdown, CSV and LaTeX."""

import csv
import html
from collections.abc import Sequence
from io import StringIO

from milan_mm.evaluation.tables import Entry, Line, Table, TableCell

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
    "best",
    "published",
    "difference",
    "protocol",
    "protocol_hash",
    "data_counts",
)
_FORMULA = ("=", "+", "-", "@")  # what a cell of a spreadsheet starts with to be computed
_LATEX_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


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
    head = [_plain(title) for title in head]
    lines = [f"## {_plain(table.arch)}", "", _row(head), _row(["---"] * len(head))]
    for line in table.lines:
        cells = [_text(cell, line, "**{}**") for cell in line.cells]
        names = [_plain(line.method), _plain(line.weights or "(published)")]
        lines.append(_row([*names, *cells]))
    lines += ["", *(f"- {_plain(note)}" for note in table.notes), ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text in which nothing is a tag, a link or an emphasis, on one line."""
    text = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*[]" else c for c in text)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _latex(table: Table) -> str:
    head = ["method", "weights", *(column.title for column in table.columns)]
    lines = [
        f"% {table.arch}; needs the package booktabs",
        rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(_escaped, head)) + r" \\",
        r"\midrule",
    ]
    for line in table.lines:
        cells = [_text(cell, line, "\0{}\1") for cell in line.cells]
        text = " & ".join(map(_escaped, [line.method, line.weights or "(published)", *cells]))
        lines.append(text.replace("\0", r"\textbf{").replace("\1", "}") + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par {_escaped(note)}" for note in table.notes]
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(c, c) for c in text)


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
    text = f"{entry.mean:.1f}"
    text = bold.format(text) if entry.best else text
    if entry.mark:
        text += f" ({entry.mark})"
    if entry.runs > 1:
        text += f" ({entry.low:.1f} to {entry.high:.1f}, {entry.runs} runs)"
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
                facts = {key: _as_text(value) for key, value in facts.items()}
                for entry in cell.entries:
                    writer.writerow(facts | _csv_entry(entry))
                if not cell.entries:
                    writer.writerow(facts | dict(origin=_origin_without_runs(line, cell), runs=0))
    return file.getvalue()


def _as_text(value: object) -> object:
    """A value that no spreadsheet takes for a formula."""
    is_formula = isinstance(value, str) and value.lstrip().startswith(_FORMULA)
    return f"'{value}" if is_formula else value


def _origin_without_runs(line: Line, cell: TableCell) -> str:
    if line.weights:
        return NOT_RUN
    return NOT_PUBLISHED if cell.published is None else "published"


def _csv_entry(entry: Entry) -> dict:
    group = entry.group
    difference = entry.difference
    return dict(
        origin="measured",
        mean=entry.mean,
        min=entry.low,
        max=entry.high,
        runs=entry.runs,
        best=int(entry.best),
        difference=None if difference is None else round(difference, 4),
        protocol=group.protocol,
        protocol_hash=group.protocol_hash,
        data_counts=" ".join(f"{split}={count}" for split, count in group.data_counts),
    )
