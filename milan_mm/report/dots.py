"""Runs as dots, a line for each method, with their range and the published number beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from milan_mm.report.axes import px, tight_axis
from milan_mm.report.page import EMPTY, join

_WIDTH, _NAMES, _ROW, _TOP, _BOTTOM = 360, 118, 20, 8, 36  # pixels
_MOST_LETTERS = 18


@dataclass(frozen=True)
class DotRow:
    """A method.

    Attributes:
        name: As the table has it. values: Of its runs, empty where it was not run here.
        published: In the paper, None where it is not there or cannot be compared.
        span: What the line covers, None for the range of the values.
    """

    name: str
    values: Sequence[float]
    published: float | None = None
    span: tuple[float, float] | None = None


def dot_plot(title: str, note: str, unit: str, rows: Sequence[DotRow]) -> Markup:
    """A figure with a line for each method; nothing for a single number.

    Args:
        title: Above the picture. note: Below the title, e.g. the protocol.
        unit: Of the values; what differs by less than a point is not stretched to the whole width.
    """
    ends = [(*row.values, *(row.span or ()), row.published) for row in rows]
    numbers = [v for values in ends for v in values if v is not None]
    if len(numbers) < 2:
        return EMPTY
    height = _TOP + _ROW * len(rows) + _BOTTOM
    width, least = max(numbers) - min(numbers), 1.0 if "%" in unit else 0.01
    space = max(width * 0.06, (least - width) / 2)
    x = tight_axis(min(numbers) - space, max(numbers) + space, _NAMES, _WIDTH - 8, 4)
    floor = height - _BOTTOM
    parts = []
    for tick, label in zip(x.ticks, x.labels, strict=True):
        parts.append(
            Markup(
                '<line class="rule" x1="{x}" x2="{x}" y1="{top}" y2="{floor}"/>'
                '<text x="{x}" y="{below}" text-anchor="middle">{label}</text>'
            ).format(x=px(x.at(tick)), top=_TOP, floor=floor, below=floor + 15, label=label)
        )
    for i, row in enumerate(rows):
        parts.append(_line(row, _TOP + _ROW * (i + 0.5), x.at, 2 if "%" in unit else 3))
    parts.append(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (_NAMES + _WIDTH) / 2, height - 4, unit
        )
    )
    return Markup(
        '<figure><h3>{}</h3><p class="note">{}</p>\n<svg viewBox="0 0 {} {}" role="img" '
        'aria-label="{}">\n{}\n</svg></figure>'
    ).format(title, note, _WIDTH, height, title, join(parts))


def _line(row: DotRow, y: float, at: Callable[[float], float], digits: int) -> Markup:
    name = row.name
    if len(name) > _MOST_LETTERS:
        name = f"{name[: _MOST_LETTERS - 1]}…"
    kind = "label" if row.values else ""
    parts = [
        Markup(
            '<text class="{}" x="{}" y="{}" text-anchor="end">{}<title>{}</title></text>'
        ).format(kind, _NAMES - 8, px(y + 4), name, row.name)
    ]
    if row.values and (row.span or len(row.values) > 1):
        low, high = row.span or (min(row.values), max(row.values))
        parts.append(
            Markup('<line class="curve s0" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                px(at(low)), px(at(high)), px(y), px(y)
            )
        )
    said = f"{row.name}: " + ", ".join(f"{value:.{digits}f}" for value in row.values)
    parts += [
        Markup('<circle class="f0" cx="{}" cy="{}" r="3.6"><title>{}</title></circle>').format(
            px(at(value)), px(y), said
        )
        for value in row.values
    ]
    if row.published is not None:
        a = at(row.published)
        parts.append(
            Markup(
                '<path class="hollow" d="M{} {}l5 5l-5 5l-5-5Z"><title>{}</title></path>'
            ).format(px(a), px(y - 5), f"{row.name}, published: {row.published:.1f}")
        )
    return join(parts)
