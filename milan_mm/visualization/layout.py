"""A figure that grows downwards, block by block, measured in inches from its upper left corner."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milan_mm.visualization.style import CAPTION_SIZE, LABEL_SIZE, paper_style

POINT = 1 / 72  # inches
MARGIN, GAP = 0.04, 0.05
_LINE = 1.25  # height of a line, in units of the letters' size
_LETTER = 0.56  # width of a letter, on average


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
        longest = max(len(str(handle.get_label())) for handle in handles)
        entry = (longest * _LETTER + 4) * LABEL_SIZE * POINT
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
    letters = max(4, int(width / (size * POINT * _LETTER)))
    lines = [part for line in text.split("\n") for part in _break(line, letters)]
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][: letters - 1] + "…"]
    return "\n".join(lines)


def _break(line: str, letters: int) -> list[str]:
    """Break a line after spaces and the marks in names of files; elsewhere only where it must."""
    lines = [""]
    for piece in re.split(r"(?<=[\s_/-])", line):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > letters:
            lines.append("")
        while len(lines[-1]) + len(piece.rstrip()) > letters:
            lines[-1], piece = piece[:letters], piece[letters:]
            lines.append("")
        lines[-1] += piece
    return [part.rstrip() for part in lines]


def count_lines(text: str) -> int:
    """Lines of a text; none of an empty one."""
    return text.count("\n") + 1 if text else 0


def lines_height(lines: int, size: float) -> float:
    """Inches that some lines take, with the space around them."""
    return (lines * size * _LINE + 3) * POINT if lines else 0.0
