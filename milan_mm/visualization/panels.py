"""A grid of pictures and maps, with titles, colour bars, a legend and a caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from milan_mm.visualization.layout import (
    GAP,
    MARGIN,
    POINT,
    Page,
    Placing,
    count_lines,
    lines_height,
    wrap,
)
from milan_mm.visualization.style import (
    COLUMN_WIDTH,
    FAINT_INK,
    LABEL_SIZE,
    PAGE_WIDTH,
    TITLE_SIZE,
    colour_map,
)

MAX_CELL = 1.5  # inches
_ROW_TITLE_LINES = 2
_BAR, _BAR_LABELS, _BAR_LENGTH = 0.07, 0.33, 1.4  # inches
_THREE_NUMBERS = 0.8  # inches, of a bar on which three numbers have room


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes:
        pixels: (H, W, 3) uint8, RGB; or (h, w) float, a map, NaN where it has no value.
        quantity: Of a map: key of `style.MAPS`.
        low, high: Values of a map in its darkest and its brightest colour.
        note: A few words below it.
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


@dataclass(frozen=True)
class Frame:
    """What stands around the panels of a figure.

    Attributes:
        titles: Above the columns.
        row_titles: Left of the rows, read upwards; fewer than rows leave the others without.
        bars: Below the columns.
        legend: Colour of what the panels show, by name; (R, G, B) in 0-1, or matplotlib's words.
        caption: Below everything, wrapped.
        width: Largest width of the figure in inches.
        max_cell: Largest width of a panel in inches: a figure of few columns is narrower.
    """

    titles: Sequence[str]
    row_titles: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    legend: Mapping[str, object] = field(default_factory=dict)
    caption: str = ""
    width: float = PAGE_WIDTH
    max_cell: float = MAX_CELL


def panel_figure(rows: Sequence[Sequence[Panel | None]], frame: Frame) -> Figure:
    """Lay panels out in rows of equal length; None leaves a cell empty."""
    columns = _Columns(frame)
    page = Page(columns.page_width)
    _add_titles(page, columns, frame.titles)
    for i, row in enumerate(rows):
        title = frame.row_titles[i] if i < len(frame.row_titles) else ""
        _add_row(page, columns, row, title)
    _add_bars(page, columns, frame.bars)
    page.add_legend(_handles(frame.legend))
    page.add_caption(frame.caption)
    return page.figure()


class _Columns:
    """Where the columns are, in inches."""

    def __init__(self, frame: Frame) -> None:
        number = len(frame.titles)
        left = MARGIN
        if any(frame.row_titles):
            left += lines_height(_ROW_TITLE_LINES, LABEL_SIZE)
        self.width = min(
            frame.max_cell, (frame.width - left - MARGIN - (number - 1) * GAP) / number
        )
        used = left + number * (self.width + GAP) - GAP + MARGIN
        self.page_width = min(frame.width, max(used, COLUMN_WIDTH))
        self.first = left + max(0.0, (self.page_width - used) / 2)

    def left(self, number: int) -> float:
        """Left edge of a column."""
        return self.first + number * (self.width + GAP)


def _add_titles(page: Page, columns: _Columns, titles: Sequence[str]) -> None:
    texts = [wrap(title, columns.width + GAP, TITLE_SIZE) for title in titles]
    height = lines_height(max(map(count_lines, texts)), TITLE_SIZE)

    def draw(place: Placing, top: float) -> None:
        for i, text in enumerate(texts):
            x, y = columns.left(i) + columns.width / 2, top + height - 0.4 * TITLE_SIZE * POINT
            place.text(x, y, text, TITLE_SIZE, va="baseline")  # the last lines on one level

    page.add(height, draw)


def _add_row(page: Page, columns: _Columns, row: Sequence[Panel | None], title: str) -> None:
    width = columns.width
    height = max(width * panel.shape for panel in row if panel)
    notes = [wrap(p.note, width + GAP, LABEL_SIZE, most=3) if p else "" for p in row]
    name = wrap(title, height, LABEL_SIZE, _ROW_TITLE_LINES)

    def draw(place: Placing, top: float) -> None:
        place.text(
            columns.first - 2 * POINT,
            top + height / 2,
            name,
            LABEL_SIZE,
            ha="right",
            va="center",
            multialignment="center",
            rotation=90,
            color=FAINT_INK,
        )
        for i, (panel, note) in enumerate(zip(row, notes, strict=True)):
            if panel is None:
                continue
            own = width * panel.shape
            _draw_panel(place.axes(columns.left(i), top + (height - own) / 2, width, own), panel)
            x, below = columns.left(i) + width / 2, top + height + 1.5 * POINT
            place.text(x, below, note, LABEL_SIZE, va="top", color=FAINT_INK)

    page.add(height + lines_height(max(map(count_lines, notes)), LABEL_SIZE) + GAP, draw)


def _add_bars(page: Page, columns: _Columns, bars: Sequence[Bar]) -> None:
    if not bars:
        return
    widths = [columns.left(b.last) + columns.width - columns.left(b.first) for b in bars]
    labels = [wrap(b.label, w + GAP, LABEL_SIZE) for b, w in zip(bars, widths, strict=True)]

    def draw(place: Placing, top: float) -> None:
        for bar, width, label in zip(bars, widths, labels, strict=True):
            length = min(_BAR_LENGTH, 0.8 * width)
            x = columns.left(bar.first) + (width - length) / 2
            _draw_bar(place.axes(x, top + 0.02, length, _BAR), bar, label, length)

    more = lines_height(max(map(count_lines, labels)) - 1, LABEL_SIZE)
    page.add(_BAR + _BAR_LABELS + more, draw)


def _draw_panel(axes: Axes, panel: Panel) -> None:
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
        axes.imshow(panel.pixels, interpolation=smooth, aspect="auto")
    for spine in axes.spines.values():
        spine.set_visible(panel.frame is not None)
        if panel.frame:
            spine.set_edgecolor(panel.frame)
            spine.set_linewidth(1.8)
            spine.set_linestyle((0, (2.5, 1.2)) if panel.dashed else "solid")


def _draw_bar(axes: Axes, bar: Bar, label: str, length: float) -> None:
    """Draw a bar of some inches; a short one has numbers at its ends alone."""
    mappable = ScalarMappable(Normalize(bar.low, bar.high), colour_map(bar.quantity))
    colours = axes.figure.colorbar(mappable, cax=axes, orientation="horizontal", label=label)
    colours.outline.set_linewidth(0.4)
    colours.ax.xaxis.labelpad = 1
    if bar.ends:
        colours.set_ticks([bar.low, bar.high], labels=list(bar.ends))
        first, last = colours.ax.get_xticklabels()
        first.set_horizontalalignment("left")  # inwards, where there is room for words
        last.set_horizontalalignment("right")
    else:
        ticks = np.linspace(bar.low, bar.high, 3 if length > _THREE_NUMBERS else 2).tolist()
        colours.set_ticks(ticks, labels=_distinct(ticks))


def _distinct(numbers: Sequence[float]) -> list[str]:
    """Numbers with two digits, or as many more as it takes to tell them apart."""
    for digits in range(2, 7):
        texts = [f"{number:.{digits}g}" for number in numbers]
        if len(set(texts)) == len(texts):
            break
    return texts


def _handles(legend: Mapping[str, object]) -> list[Artist]:
    return [Patch(facecolor=colour, label=name) for name, colour in legend.items()]  # type: ignore[arg-type]
