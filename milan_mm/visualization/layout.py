"""A figure that grows downwards, block by block, measured in inches from its upper left corner."""

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from milan_mm.visualization.style import CAPTION_SIZE, FONT, LABEL_SIZE, paper_style

POINT = 1 / 72  # inches
MARGIN, GAP = 0.04, 0.05
_MEASURED, _ROUNDING = 100.0, 1.04
_LINE = 1.25  # height of a line, in units of the letters' size


class Page:
    """Collects what is drawn, since only the last block settles the height of a figure.

    Attributes:
        width: In inches.
        height: Of what was added so far.
    """

    def __init__(self, width: float) -> None:
        self.width, self.height = width, MARGIN
        self._blocks: list[Callable[[Placing], None]] = []

    def add(self, height: float, draw: Callable[["Placing", float], None]) -> None:
        """Add a block: `draw` gets the place of its upper edge."""
        top = self.height
        self._blocks.append(lambda place: draw(place, top))
        self.height += height

    def add_legend(self, handles: Sequence[Artist]) -> None:
        """Add a legend of one or several rows; each handle has its label."""
        if not handles:
            return
        longest = max(text_width(str(handle.get_label()), LABEL_SIZE) for handle in handles)
        entry = longest + 3 * LABEL_SIZE * POINT
        per_row = max(1, min(len(handles), int(self.width / entry)))

        def draw(place: Placing, top: float) -> None:
            place.figure.legend(
                handles=list(handles),
                ncols=per_row,
                loc="upper center",
                bbox_to_anchor=(0.5, 1 - (top + 2 * POINT) / self.height),
                frameon=False,
                fontsize=LABEL_SIZE,
                borderaxespad=0,
                borderpad=0,
                labelspacing=0.35,
                handlelength=1,
                handletextpad=0.5,
                columnspacing=1.2,
            )

        self.add(lines_height(math.ceil(len(handles) / per_row), LABEL_SIZE + 1.5), draw)

    def add_caption(self, caption: str) -> None:
        """Add a caption, wrapped to the width of the figure."""
        if not caption:
            return
        text = wrap(caption, self.width - 2 * MARGIN, CAPTION_SIZE)

        def draw(place: Placing, top: float) -> None:
            place.text(MARGIN, top + GAP, text, CAPTION_SIZE, ha="left", va="top")

        self.add(lines_height(count_lines(text), CAPTION_SIZE) + GAP, draw)

    def figure(self) -> Figure:
        """Draw everything."""
        with paper_style():
            figure = Figure(figsize=(self.width, self.height + MARGIN))
            place = Placing(figure)
            for draw in self._blocks:
                draw(place)
        return figure


class Placing:
    """Places things in inches from the upper left corner of a figure."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.width, self.height = figure.get_size_inches()

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """New axes, by their upper left corner and their size."""
        bottom = 1 - (y + height) / self.height
        return self.figure.add_axes(
            (x / self.width, bottom, width / self.width, height / self.height)
        )

    def text(
        self, x: float, y: float, text: str, size: float, ha: str = "center", **settings: Any
    ) -> None:
        """New text, with the settings of matplotlib's `Figure.text`."""
        self.figure.text(
            x / self.width, 1 - y / self.height, text, fontsize=size, ha=ha, **settings
        )


def wrap(text: str, width: float, size: float, most: int | None = None) -> str:
    """Break text into lines that fit a width in inches, for letters of some points.

    Args:
        most: Lines that there is room for; what is left out becomes '…'.
    """
    lines = [part for line in text.split("\n") for part in _break(line, width, size)]
    if most is not None and len(lines) > most:
        last = lines[most - 1]
        while last and text_width(last + "…", size) > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last + "…"]
    return "\n".join(lines)


def text_width(text: str, size: float) -> float:
    """Width in inches of a line, for letters of some points."""
    return sum(map(_advance, text)) * size * POINT


@cache
def _advance(letter: str) -> float:
    """Width of a letter, in units of its size; with what rounding to pixels may add."""
    font = FontProperties(family=FONT, size=_MEASURED)
    width, _, _ = text_to_path.get_text_width_height_descent(letter, font, ismath=False)
    return _ROUNDING * width / _MEASURED


def _break(line: str, width: float, size: float) -> list[str]:
    """Break a line after spaces and the marks in names of files; elsewhere only where it must."""
    lines = [""]
    for piece in re.split(r"(?<=[\s_/(-])", line):
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > width:
            lines.append("")
        while text_width(lines[-1] + piece.rstrip(), size) > width and len(piece.rstrip()) > 1:
            fits = len(piece)
            while fits > 1 and text_width(piece[:fits], size) > width:
                fits -= 1
            lines[-1], piece = piece[:fits], piece[fits:]
            lines.append("")
        lines[-1] += piece
    return [part.rstrip() for part in lines]


def count_lines(text: str) -> int:
    """Lines of a text; none of an empty one."""
    return text.count("\n") + 1 if text else 0


def lines_height(lines: int, size: float) -> float:
    """Inches that some lines take, with the space around them."""
    return (lines * size * _LINE + 3) * POINT if lines else 0.0
