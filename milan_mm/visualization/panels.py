"""A grid of pictures and maps with titles, colour bars and a caption, laid out in inches."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from milan_mm.visualization.style import (
    CAPTION_SIZE,
    COLUMN_WIDTH,
    FAINT_INK,
    LABEL_SIZE,
    PAGE_WIDTH,
    TITLE_SIZE,
    colour_map,
    paper_style,
)

POINT = 1 / 72  # inches
_MAX_CELL, _MARGIN, _GAP = 1.5, 0.04, 0.05
_ROW_TITLE = 0.15
_BAR, _BAR_LABELS = 0.07, 0.33
_NARROW = 0.56  # width of a letter in units of its size, on average


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes:
        pixels: (H, W, 3) uint8, RGB; or (h, w) float, a map, NaN where it has no value.
        quantity: Of a map: key of `style.MAPS`.
        low, high: Values of a map in its darkest and its brightest colour.
        note: Short line below it.
        frame: Colour of a frame around it; None draws none.
        dashed: Whether the frame is dashed.
        interpolate: Of a picture: smooth it where it is enlarged.
    """

    pixels: np.ndarray
    quantity: str = ""
    low: float = 0.0
    high: float = 1.0
    note: str = ""
    frame: str | None = None
    dashed: bool = False
    interpolate: bool = True

    @property
    def shape(self) -> float:
        """Height by width."""
        return self.pixels.shape[0] / self.pixels.shape[1]


@dataclass(frozen=True)
class Bar:
    """A colour bar below some columns.

    Attributes:
        first, last: Its columns.
        quantity: See `Panel`.
        label: What the numbers are, with their unit.
        low, high: Their range.
        ends: What stands at the ends instead of numbers.
    """

    first: int
    last: int
    quantity: str
    label: str
    low: float = 0.0
    high: float = 1.0
    ends: tuple[str, str] | None = None


def panel_figure(
    rows: Sequence[Sequence[Panel | None]],
    titles: Sequence[str],
    row_titles: Sequence[str] = (),
    bars: Sequence[Bar] = (),
    legend: Sequence[tuple[str, Any]] = (),
    caption: str = "",
    width: float = PAGE_WIDTH,
    max_cell: float = _MAX_CELL,
) -> Figure:
    """Lay panels out in rows and columns.

    Args:
        rows: Panels; None leaves a cell empty. All rows have the same number.
        titles: Above the columns.
        row_titles: Left of the rows, read upwards; none leave the margin out.
        bars: Colour bars.
        legend: Names and colours of what the panels show.
        caption: Below everything, wrapped.
        width: Largest width of the figure in inches.
        max_cell: Largest width of a panel in inches: a figure of few columns is narrower.
    """
    columns = len(titles)
    left = _MARGIN + (_ROW_TITLE if any(row_titles) else 0)
    cell = min(max_cell, (width - left - _MARGIN - (columns - 1) * _GAP) / columns)
    used = left + columns * (cell + _GAP) - _GAP + _MARGIN
    total_width = min(width, max(used, COLUMN_WIDTH))
    left += max(0, (total_width - used) / 2)

    wrapped = [wrap(title, cell, TITLE_SIZE) for title in titles]
    title_height = _height(max((t.count("\n") + 1 if t else 0) for t in wrapped), TITLE_SIZE)
    heights = [max(cell * panel.shape for panel in row if panel) for row in rows]
    notes = [
        _height(
            max(panel.note.count("\n") + bool(panel.note) for panel in row if panel), LABEL_SIZE
        )
        for row in rows
    ]
    bar_height = _BAR + _BAR_LABELS if bars else 0
    legend_rows, per_row = _legend_rows(legend, total_width)
    legend_height = _height(legend_rows, LABEL_SIZE + 2)
    text = wrap(caption, total_width - 2 * _MARGIN, CAPTION_SIZE)
    caption_height = _height(text.count("\n") + 1, CAPTION_SIZE) + _GAP if caption else 0
    total = 2 * _MARGIN + title_height + sum(heights) + sum(notes) + (len(rows) - 1) * _GAP
    total += bar_height + legend_height + caption_height

    with paper_style():
        figure = Figure(figsize=(total_width, total))
        place = _Placing(figure, total_width, total)
        y = _MARGIN + title_height
        for column, title in enumerate(wrapped):
            x = left + column * (cell + _GAP) + cell / 2
            place.text(x, y - 2 * POINT, title, TITLE_SIZE, va="bottom")
        for row, (panels, height, note) in enumerate(zip(rows, heights, notes, strict=True)):
            if row < len(row_titles) and row_titles[row]:
                name = _shorten(row_titles[row], height + note, LABEL_SIZE)
                place.text(
                    left - 0.03,
                    y + height / 2,
                    name,
                    LABEL_SIZE,
                    rotation=90,
                    ha="right",
                    va="center",
                    color=FAINT_INK,
                )
            for column, panel in enumerate(panels):
                if panel is None:
                    continue
                x = left + column * (cell + _GAP)
                own = cell * panel.shape
                _draw(place.axes(x, y + (height - own) / 2, cell, own), panel)
                if panel.note:
                    place.text(
                        x + cell / 2,
                        y + height + 1.5 * POINT,
                        panel.note,
                        LABEL_SIZE,
                        va="top",
                        color=FAINT_INK,
                    )
            y += height + note + _GAP
        for bar in bars:
            x = left + bar.first * (cell + _GAP)
            length = (bar.last - bar.first + 1) * (cell + _GAP) - _GAP
            inset = min(0.12 * length, 0.15) if length < 1.6 else (length - 1.4) / 2
            axes = place.axes(x + inset, y + 0.02, length - 2 * inset, _BAR)
            _draw_bar(figure, axes, bar, wrap(bar.label, length + _GAP, LABEL_SIZE))
        y += bar_height
        if legend:
            handles = [Patch(facecolor=colour, label=name) for name, colour in legend]
            figure.legend(
                handles=handles,
                ncols=per_row,
                loc="upper center",
                frameon=False,
                bbox_to_anchor=(0.5, 1 - y / total),
                fontsize=LABEL_SIZE,
                borderaxespad=0,
                handlelength=1.0,
                handleheight=0.9,
                columnspacing=1.2,
            )
        y += legend_height
        if caption:
            place.text(_MARGIN, y + _GAP / 2, text, CAPTION_SIZE, ha="left", va="top")
    return figure


def add_caption(figure: Figure, caption: str) -> None:
    """Write a caption below a figure that left room for it, see `caption_room`."""
    width, height = figure.get_size_inches()
    text = wrap(caption, width - 2 * _MARGIN, CAPTION_SIZE)
    lines = _height(text.count("\n") + 1, CAPTION_SIZE)
    _Placing(figure, width, height).text(
        _MARGIN, height - lines - _MARGIN, text, CAPTION_SIZE, ha="left", va="top"
    )


def caption_room(caption: str, width: float) -> float:
    """Height in inches that a caption takes."""
    lines = wrap(caption, width - 2 * _MARGIN, CAPTION_SIZE).count("\n") + 1
    return _height(lines, CAPTION_SIZE) + 2 * _MARGIN if caption else 0.0


def wrap(text: str, width: float, size: float) -> str:
    """Break text into lines of some inches, for letters of some points."""
    letters = max(4, int(width / (size * POINT * _NARROW)))
    lines = [textwrap.wrap(line, letters) or [""] for line in text.split("\n")]
    return "\n".join(part for line in lines for part in line)


class _Placing:
    """Places things in inches from the upper left corner of a figure."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        bottom = 1 - (y + height) / self.height
        return self.figure.add_axes(
            (x / self.width, bottom, width / self.width, height / self.height)
        )

    def text(
        self, x: float, y: float, text: str, size: float, ha: str = "center", **settings: Any
    ) -> None:
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontsize=size,
            ha=ha,
            linespacing=1.15,
            **settings,
        )


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if panel.quantity:
        axes.imshow(
            panel.pixels,
            cmap=colour_map(panel.quantity),
            vmin=panel.low,
            vmax=panel.high,
            interpolation="nearest",
            aspect="auto",
        )
    else:
        smooth = "auto" if panel.interpolate else "nearest"
        axes.imshow(panel.pixels, aspect="auto", interpolation=smooth)
    for spine in axes.spines.values():
        spine.set_visible(panel.frame is not None)
        if panel.frame:
            spine.set_edgecolor(panel.frame)
            spine.set_linewidth(1.8)
            spine.set_linestyle((0, (2.5, 1.2)) if panel.dashed else "solid")


def _draw_bar(figure: Figure, axes: Axes, bar: Bar, label: str) -> None:
    mappable = ScalarMappable(Normalize(bar.low, bar.high), colour_map(bar.quantity))
    colours = figure.colorbar(mappable, cax=axes, orientation="horizontal", label=label)
    colours.outline.set_linewidth(0.4)
    colours.ax.xaxis.labelpad = 1
    if bar.ends:
        colours.set_ticks([bar.low, bar.high], labels=list(bar.ends))
    else:
        colours.set_ticks(np.linspace(bar.low, bar.high, 3).tolist())
        colours.ax.xaxis.set_major_formatter("{x:.3g}")


def _height(lines: int, size: float) -> float:
    """Inches of some lines, and of the space around them."""
    return lines * size * POINT * 1.25 + 3 * POINT if lines else 0.0


def _shorten(text: str, width: float, size: float) -> str:
    letters = max(4, int(width / (size * POINT * _NARROW)))
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _legend_rows(legend: Sequence[tuple[str, Any]], width: float) -> tuple[int, int]:
    """Rows of a legend, and entries of a row."""
    if not legend:
        return 0, 0
    entry = (max(len(name) for name, _ in legend) * _NARROW + 3.5) * LABEL_SIZE * POINT
    per_row = max(1, min(len(legend), int(width / entry)))
    return math.ceil(len(legend) / per_row), per_row
