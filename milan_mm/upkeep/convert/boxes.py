"""From boxes and outlines as a source states them to objects that a detector can learn from."""

from collections.abc import Sequence
from itertools import chain

from milan_mm.datasets.coco.faults import is_finite
from milan_mm.upkeep.convert.samples import Dropped, Thing

MIN_SIDE = 1.0  # pixels; mmdet leaves out what is smaller
_DIGITS = 4  # of coordinates in pixels


def thing_of(
    label: int,
    corners: Sequence[float],
    size: tuple[int, int],
    dropped: Dropped,
    where: object,
    polygons: Sequence[Sequence[float]] | dict | None = None,
    crowd: bool = False,
) -> Thing | None:
    """An object, cut off at the edges of its image; None, and counted, where nothing is left.

    Args:
        corners: x and y of the upper left, then of the lower right corner, in pixels.
        size: Width and height of the image. where: What messages call the object.
        polygons: Its mask, see `Thing`.
    """
    outlines = polygons if isinstance(polygons, Sequence) else ()
    if not all(map(is_finite, chain(corners, *outlines))):
        dropped.object("with coordinates that are not numbers", where)
        return None
    x1, y1, x2, y2 = (_inside(v, size[i % 2]) for i, v in enumerate(corners))
    if max(corners[0], corners[2]) <= 0 or max(corners[1], corners[3]) <= 0:
        dropped.object("outside their image", where)
        return None
    if min(corners[0], corners[2]) >= size[0] or min(corners[1], corners[3]) >= size[1]:
        dropped.object("outside their image", where)
        return None
    if min(x2 - x1, y2 - y1) < MIN_SIDE:
        dropped.object("with a side below 1 pixel", where)
        return None
    box = (x1, y1, round(x2 - x1, _DIGITS), round(y2 - y1, _DIGITS))
    inside = [[_inside(v, size[i % 2]) for i, v in enumerate(p)] for p in outlines]
    return Thing(label, box, polygons if isinstance(polygons, dict) else inside or None, crowd)


def around(points: Sequence[float]) -> tuple[float, float, float, float]:
    """The corners of the box around x, y, x, y, ..."""
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _inside(value: float, limit: float) -> float:
    return round(min(max(value, 0.0), float(limit)), _DIGITS)
