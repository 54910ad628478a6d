"""Line charts as SVG, small enough that a page may hold a dozen.

A chart is drawn at the width of a phone and scaled up on a larger screen, so its text can be read
on both. Long curves are thinned honestly: where several points share a column of the picture, a
band shows their smallest and largest value, and the line their mean. Curves differ in colour and in
dashes; the colours are those of Okabe and Ito, which the colour-blind can tell apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from milan_mm.report.axes import Axis, linear_axis, log_axis, number, px, tight_axis
from milan_mm.report.page import EMPTY, join

WIDTH, HEIGHT = 360, 220  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 352, 12, 182
COLUMNS = 150  # of a thinned curve
_HITS = 60  # places that show their values under the pointer
STYLES = 7  # of page.css
_LOG_RATIO = 20.0  # from which a logarithmic axis shows more than a linear one


@dataclass(frozen=True)
class Series:
    """A curve; both of equal length, x ascending."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        title: Above the picture. x_label, unit: Of the axes.
        series: At most `STYLES` of them.
        marks: Places of vertical lines, e.g. where a run was resumed.
        log: Whether y may be logarithmic; it is where that shows more.
        x_end: Where the axis ends at least, e.g. at the planned end of the run.
        zero: Whether the axis of y starts at 0.
    """

    title: str
    x_label: str
    unit: str
    series: Sequence[Series]
    marks: Sequence[float] = field(default=())
    log: bool = False
    x_end: float | None = None
    zero: bool = False


@dataclass(frozen=True)
class Column:
    """The points of a curve that share a column: their mean, smallest and largest value."""

    x: float
    mean: float
    low: float
    high: float


def thin(x: Sequence[float], y: Sequence[float], columns: int = COLUMNS) -> list[Column]:
    """A curve as at most `columns` columns of equal width; every point falls into one.

    A curve of fewer points stays as it is.
    """
    if len(x) <= columns:
        return [Column(a, b, b, b) for a, b in zip(x, y, strict=True)]
    first, width = x[0], (x[-1] - x[0]) / columns
    members: dict[int, list[tuple[float, float]]] = {}
    for a, b in zip(x, y, strict=True):
        members.setdefault(min(int((a - first) / width), columns - 1), []).append((a, b))
    found = []
    for points in members.values():
        xs, ys = zip(*points, strict=True)
        found.append(Column(math.fsum(xs) / len(xs), math.fsum(ys) / len(ys), min(ys), max(ys)))
    return found


def line_chart(chart: Chart) -> Markup:
    """A figure with the chart's title, its picture and, for several curves, a legend."""
    curves = [thin(series.x, series.y) for series in chart.series]
    points = [column for curve in curves for column in curve]
    if not points:
        return EMPTY
    lows, highs = [p.low for p in points], [p.high for p in points]
    use_log = chart.log and min(lows) > 0 and max(highs) / min(lows) >= _LOG_RATIO
    low = 0.0 if chart.zero and min(lows) >= 0 else min(lows)
    y = (log_axis if use_log else linear_axis)(low, max(highs), _BOTTOM, _TOP)
    ends = [p.x for p in points]
    right = max([*ends, *([chart.x_end] if chart.x_end is not None else [])])
    x = tight_axis(min(*ends, 0.0), right, _LEFT, _RIGHT)
    unit = " · ".join(filter(None, [chart.unit, "log scale" if use_log else ""]))
    drawing = Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n{}\n{}\n{}\n</svg>'
    ).format(
        WIDTH,
        HEIGHT,
        _spoken(chart),
        frame(x, y, chart.x_label, unit),
        join(
            Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                px(x.at(mark)), _TOP, _BOTTOM
            )
            for mark in chart.marks
            if x.low <= mark <= x.high
        ),
        join(_curve(curve, i % STYLES, x, y) for i, curve in enumerate(curves)),
        _hits(chart, x),
    )
    return Markup("<figure><h3>{}</h3>\n{}\n{}</figure>").format(
        chart.title, drawing, _legend(chart.series) if len(chart.series) > 1 else EMPTY
    )


def frame(x: Axis, y: Axis, x_label: str, unit: str) -> Markup:
    """Axes, ticks and their labels."""
    lines = []
    for tick, label in zip(y.ticks, y.labels, strict=True):
        height = px(y.at(tick))
        lines.append(
            Markup(
                '<line class="rule" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(_LEFT, _RIGHT, height, height, _LEFT - 6, px(y.at(tick) + 3.5), label)
        )
    for tick, label in zip(x.ticks, x.labels, strict=True):
        at = x.at(tick)
        anchor = "end" if at > _RIGHT - 8 else "middle"
        lines.append(
            Markup(
                '<line class="axis" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                '<text x="{3}" y="{4}" text-anchor="{5}">{6}</text>'
            ).format(
                px(at),
                _BOTTOM,
                _BOTTOM + 4,
                px(_RIGHT + 4 if anchor == "end" else at),
                _BOTTOM + 17,
                anchor,
                label,
            )
        )
    lines.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            _LEFT, _RIGHT, _BOTTOM, _BOTTOM
        )
    )
    lines.append(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (_LEFT + _RIGHT) / 2, HEIGHT - 5, x_label
        )
    )
    if unit:
        lines.append(Markup('<text x="{}" y="{}">{}</text>').format(_LEFT + 4, _TOP - 2, unit))
    return join(lines)


def _curve(columns: Sequence[Column], style: int, x: Axis, y: Axis) -> Markup:
    parts = []
    if any(column.low < column.high for column in columns):
        edge = [(c.x, c.high) for c in columns] + [(c.x, c.low) for c in reversed(columns)]
        parts.append(
            Markup('<path class="band f{}" d="{}Z"/>').format(
                style, _path([(x.at(a), y.at(b)) for a, b in edge])
            )
        )
    places = [(x.at(c.x), y.at(c.mean)) for c in columns]
    parts.append(Markup('<path class="curve s{}" d="{}"/>').format(style, _path(places)))
    if len(columns) <= 25:
        parts += [
            Markup('<circle class="f{}" cx="{}" cy="{}" r="2.6"/>').format(style, px(a), px(b))
            for a, b in places
        ]
    return join(parts)


def _hits(chart: Chart, x: Axis) -> Markup:
    """Invisible strips that show the values below the pointer."""
    places = sorted({value for series in chart.series for value in series.x})
    places = places[:: math.ceil(len(places) / _HITS)]
    middles = [(x.at(a) + x.at(b)) / 2 for a, b in pairwise(places)]
    edges = [_LEFT, *middles, _RIGHT]
    by_series = [(one.name, dict(zip(one.x, one.y, strict=True))) for one in chart.series]
    strips = []
    for place, (left, right) in zip(places, pairwise(edges), strict=True):
        said = [f"{name}: {number(ys[place])}" for name, ys in by_series if place in ys]
        text = f"{chart.x_label} {number(place, 7)}\n" + "\n".join(said)
        strips.append(
            Markup(
                '<g class="hit"><rect x="{left}" y="{top}" width="{width}" height="{height}"/>'
                '<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/><title>{text}</title></g>'
            ).format(
                left=px(left),
                top=_TOP,
                width=px(right - left),
                height=_BOTTOM - _TOP,
                bottom=_BOTTOM,
                x=px(x.at(place)),
                text=text,
            )
        )
    return join(strips)


def _legend(series: Sequence[Series]) -> Markup:
    items = [
        Markup(
            '<li><svg viewBox="0 0 26 8" aria-hidden="true"><line class="curve s{}" x1="1" x2="25" '
            'y1="4" y2="4"/></svg>{}</li>'
        ).format(i % STYLES, one.name)
        for i, one in enumerate(series)
    ]
    return join(['<ul class="legend">', *items, "</ul>"])


def _spoken(chart: Chart) -> str:
    """The chart for those who cannot see it: where each curve starts and ends."""
    curves = [
        f"{s.name} from {number(s.y[0])} to {number(s.y[-1])}" for s in chart.series if len(s.y)
    ]
    return f"{chart.title}: {'; '.join(curves)}"


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{px(a)} {px(b)}" for a, b in places)
