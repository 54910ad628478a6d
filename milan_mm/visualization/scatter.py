"""Clouds of points in classes, side by side, with one legend."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    class_look,
)

_MAX_SIDE, _PER_ROW = 2.9, 3  # inches, panels
_INK_SHARE = 0.06  # of a panel that markers would cover if none overlapped


class Cloud(NamedTuple):
    """Points (N, 2), the title above them, and a few words below."""

    points: np.ndarray
    title: str
    note: str = ""


def scatter_figure(
    clouds: Sequence[Cloud],
    labels: np.ndarray,
    classes: Sequence[str],
    caption: str = "",
    width: float = PAGE_WIDTH,
) -> Figure:
    """Draw one square panel per cloud; axes have no numbers, since those of t-SNE mean nothing.

    Args:
        labels: (N,) int, of the points of every cloud.
        classes: Names by label.
        caption: Below everything, wrapped.
        width: Largest width of the figure in inches.
    """
    per_row = min(_PER_ROW, len(clouds), 2 if width < PAGE_WIDTH else _PER_ROW)
    side = min(_MAX_SIDE, (width - 2 * MARGIN - (per_row - 1) * GAP) / per_row)
    used = per_row * (side + GAP) - GAP + 2 * MARGIN
    page = Page(min(width, max(used, COLUMN_WIDTH)))
    left = (page.width - used) / 2 + MARGIN
    for start in range(0, len(clouds), per_row):
        _add_row(page, clouds[start : start + per_row], labels, left, side)
    page.add_legend([_handle(i, name) for i, name in enumerate(classes)])
    page.add_caption(caption)
    return page.figure()


def _add_row(
    page: Page, clouds: Sequence[Cloud], labels: np.ndarray, left: float, side: float
) -> None:
    titles = [wrap(cloud.title, side, TITLE_SIZE, most=2) for cloud in clouds]
    notes = [wrap(cloud.note, side, LABEL_SIZE, most=2) for cloud in clouds]
    title_height = lines_height(max(map(count_lines, titles)), TITLE_SIZE)
    note_height = lines_height(max(map(count_lines, notes)), LABEL_SIZE)

    def draw(place: Placing, top: float) -> None:
        for i, (cloud, title, note) in enumerate(zip(clouds, titles, notes, strict=True)):
            x = left + i * (side + GAP)
            y = top + title_height - 0.4 * TITLE_SIZE * POINT
            place.text(x + side / 2, y, title, TITLE_SIZE, va="baseline")
            axes = place.axes(x, top + title_height, side, side)
            _draw_cloud(axes, cloud.points, labels, side)
            below = top + title_height + side + 1.5 * POINT
            place.text(x + side / 2, below, note, LABEL_SIZE, va="top", color=FAINT_INK)

    page.add(title_height + side + note_height + GAP, draw)


def _draw_cloud(axes: Axes, points: np.ndarray, labels: np.ndarray, side: float) -> None:
    area = (side / POINT) ** 2 * _INK_SHARE / len(points)  # square points
    area = float(np.clip(area, 2, 24))
    for label in np.unique(labels):
        colour, marker = class_look(int(label))
        of_class = points[labels == label]
        axes.scatter(
            of_class[:, 0],
            of_class[:, 1],
            s=area,
            c=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.2,
        )
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    half = 0.53 * max(float((points.max(axis=0) - points.min(axis=0)).max()), 1e-9)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set_xticks([])
    axes.set_yticks([])


def _handle(number: int, name: str) -> Line2D:
    colour, marker = class_look(number)
    return Line2D(
        [], [], linestyle="", marker=marker, color=colour, markersize=4, label=name,
        markeredgewidth=0,
    )  # fmt: skip
