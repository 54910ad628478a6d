"""The demo's page: the table of its numbers and all pictures, in one file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milan_mm.report.page import Cell, Row, Section, join, page, paragraph, picture, table
from milan_mm.visualization.pictures import png_bytes

INITS = ("scratch", "mae", "milan")
_TASK_TITLES = dict(
    pretrain="Pretraining", det="Detection: Mask R-CNN, %", seg="Segmentation: UperNet, %"
)
_NOTE = """Numbers are what the trainings in this folder gave; the best of a row is bold. Detection
and segmentation start from three encoders and are otherwise equal: same data, same number of
iterations, same seed. Times are seconds of wall clock, {num_parallel} trainings side by side."""


@dataclass
class Figure:
    """A picture, and how to read it.

    Attributes:
        title, caption: Plain text.
        picture: (H, W, 3) uint8, RGB.
    """

    title: str
    caption: str
    picture: np.ndarray


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
    note = paragraph(_NOTE.format(num_parallel=num_parallel), note=True)
    head = join(
        [
            *map(paragraph, introduction.split("\n\n")),
            table(["metric", *INITS], _table_rows(rows)),
            note,
        ]
    )
    sections = [
        Section(
            f"figure-{i}",
            figure.title,
            picture(png_bytes(figure.picture), figure.title, figure.caption),
        )
        for i, figure in enumerate(figures)
    ]
    return page("MILAN on the shapes: what came out", head, sections)


def _table_rows(rows: Sequence[dict]) -> list[Row]:
    values = {(row["task"], row["metric"], row["init"]): row["value"] for row in rows}
    seconds = {(row["task"], row["init"]): row["seconds"] for row in rows}
    lines = []
    for task, title in _TASK_TITLES.items():
        lines.append(Row([title]))
        for metric in dict.fromkeys(row["metric"] for row in rows if row["task"] == task):
            cells = [values.get((task, metric, init)) for init in INITS]
            digits = 3 if task == "pretrain" else 1
            # losses of different targets cannot be ranked
            best = None if task == "pretrain" else max(v for v in cells if v is not None)
            shown = [
                Cell(
                    "" if v is None else f"{v:.{digits}f}",
                    "best" if v is not None and v == best else "",
                )
                for v in cells
            ]
            lines.append(Row([metric, *shown]))
        times = [seconds.get((task, init)) for init in INITS]
        lines.append(Row(["seconds", *("" if t is None else f"{t:.0f}" for t in times)]))
    return lines
