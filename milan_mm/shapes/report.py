"""The demo's HTML report: one file with the table and all pictures inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template

import numpy as np

from milan_mm.visualization.pictures import data_uri

INITS = ("scratch", "mae", "milan")
_TASK_TITLES = dict(
    pretrain="Pretraining", det="Detection: Mask R-CNN, %", seg="Segmentation: UperNet, %"
)
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>milan_mm demo</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222;
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: bold; }
tr.task th { background: #f2f2f2; text-align: left; }
img { max-width: 100%; }
figure { margin: 1rem 0 2rem; }
figcaption, .note { color: #555; }
.key { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 .9em; }
</style>
</head>
<body>
<h1>MILAN on the shapes: what came out</h1>
$introduction
<table>
<tr><th>metric</th>$heads</tr>
$rows
</table>
<p class="note">Numbers are what the trainings in this folder gave; the best of a row is bold.
Detection and segmentation start from three encoders and are otherwise equal: same data, same
number of iterations, same seed. Times are seconds of wall clock,
$num_parallel trainings side by side.</p>
$figures
</body>
</html>
""")


@dataclass
class Figure:
    """A picture, and how to read it.

    Attributes:
        title, caption: Plain text.
        picture: (H, W, 3) uint8, RGB.
        legend: Colour (RGB, 0-255) of what the picture shows, by name.
    """

    title: str
    caption: str
    picture: np.ndarray
    legend: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


def report_html(
    rows: Sequence[dict], figures: Sequence[Figure], introduction: str, num_parallel: int
) -> str:
    """Fill the page.

    Args:
        rows: Result rows with `task`, `init`, `metric`, `value` (losses, else %), `seconds`.
        figures: In the order of the page.
        introduction: Paragraphs of plain text, separated by empty lines.
        num_parallel: How many trainings ran side by side.
    """
    return _PAGE.substitute(
        introduction="\n".join(f"<p>{escape(text)}</p>" for text in introduction.split("\n\n")),
        heads="".join(f"<th>{init}</th>" for init in INITS),
        rows="\n".join(_table_rows(rows)),
        num_parallel=num_parallel,
        figures="\n".join(_figure(figure) for figure in figures),
    )


def _table_rows(rows: Sequence[dict]) -> list[str]:
    values = {(row["task"], row["metric"], row["init"]): row["value"] for row in rows}
    seconds = {(row["task"], row["init"]): row["seconds"] for row in rows}
    lines = []
    for task, title in _TASK_TITLES.items():
        lines.append(f'<tr class="task"><th colspan="{1 + len(INITS)}">{escape(title)}</th></tr>')
        for metric in dict.fromkeys(row["metric"] for row in rows if row["task"] == task):
            cells = [values.get((task, metric, init)) for init in INITS]
            digits = 3 if task == "pretrain" else 1
            # losses of different targets cannot be ranked
            best = None if task == "pretrain" else max(v for v in cells if v is not None)
            lines.append(
                f"<tr><td>{escape(metric)}</td>"
                + "".join(
                    "<td></td>" if v is None else f"<td{_class(v == best)}>{v:.{digits}f}</td>"
                    for v in cells
                )
                + "</tr>"
            )
        times = [seconds.get((task, init)) for init in INITS]
        lines.append(
            "<tr><td>seconds</td>"
            + "".join("<td></td>" if t is None else f"<td>{t:.0f}</td>" for t in times)
            + "</tr>"
        )
    return lines


def _class(is_best: bool) -> str:
    return ' class="best"' if is_best else ""


def _figure(figure: Figure) -> str:
    legend = "".join(
        f'<span class="key" style="background: rgb{colour}"></span>{escape(name)}'
        for name, colour in figure.legend.items()
    )
    return (
        f"<h2>{escape(figure.title)}</h2>\n<figure>"
        f'<img src="{data_uri(figure.picture)}" alt="{escape(figure.title)}">'
        f"<figcaption>{escape(figure.caption)}{legend}</figcaption></figure>"
    )
