"""CVAT's export "CVAT for images 1.1": an annotations.xml with boxes, polygons, masks, ellipses.

Coordinates are pixels from the upper left corner, of the image as shown. Own code, since
`labelformat` 0.1.17 reads boxes and drops all other shapes without a word.
"""

import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from milan_mm.datasets.foreign import cvat_file, split_of
from milan_mm.errors import MissingFileError, UserError
from milan_mm.upkeep.convert.boxes import around, thing_of
from milan_mm.upkeep.convert.images import Images
from milan_mm.upkeep.convert.safe_xml import read_xml
from milan_mm.upkeep.convert.samples import ALL, Dropped, Found, Sample, Thing, check_names
from milan_mm.upkeep.convert.source import Source, progress

_CORNERS = 64  # of the polygon for an ellipse
_OTHERS = ("polyline", "points", "cuboid", "skeleton", "tag")
Shape = tuple[Sequence[float], Sequence[Sequence[float]] | dict | None]


def read_cvat(source: Source) -> Found:
    """Read the XML file and find its images.

    Raises:
        UserError: When it is of a video, or names no labels.
    """
    file = cvat_file(source.given)
    if file is None:
        raise MissingFileError(
            f"'{source.given}' has no XML file of CVAT: give its annotations.xml"
        )
    xml = read_xml(file)
    if xml.find("track") is not None:
        raise UserError(
            f"'{file}' has tracks of a video: export the task as 'CVAT for images 1.1', with images"
        )
    # of a task, a job or a project; a skeleton's inner labels have a parent
    labels = [label for label in xml.iterfind("meta//labels/label") if label.find("parent") is None]
    classes = check_names([label.findtext("name") for label in labels], file)
    numbers = {name: number for number, name in enumerate(classes)}
    images = Images(source.image_roots)
    dropped, others, rotated = Dropped(), Counter[str](), 0
    splits: dict[str, list[Sample]] = {}
    taken: set[Path] = set()
    folders = (source.root, *source.image_roots)
    for element in progress(xml.findall("image"), "reading"):
        name, subset = element.get("name") or "", element.get("subset") or ""
        parts = (f"images/{subset}", "images", subset, "")
        near = [folder / part for folder in folders for part in parts]
        stated = _number(element, "width"), _number(element, "height")
        if (sample := images.sample(name, stated, dropped, taken, near)) is None:
            continue
        size = sample.width, sample.height
        for child in element:
            if child.tag in _OTHERS:
                others[child.tag] += 1
                continue
            where = f"a {child.tag} '{child.get('label')}' on '{name}'"
            rotated += child.tag == "box" and _number(child, "rotation", 0.0) != 0
            thing = _thing(child, numbers, size, dropped, where)
            sample.things += [thing] if thing else []
        splits.setdefault(split_of(subset) or ALL, []).append(sample)
    notes = [f"not objects, left out: {n:,} {tag}" for tag, n in sorted(others.items())]
    if rotated:
        notes.append(
            f"rotated boxes ({rotated:,}): the outline is the mask, and the box is around it"
        )
    notes += images.left_out(splits, "in no annotation file")
    return Found(classes, splits, dropped, notes)


def _number(element: ET.Element, name: str, missing: float = math.nan) -> float:
    try:
        return float(element.get(name) or missing)
    except ValueError:
        return math.nan


def _thing(
    element: ET.Element,
    numbers: dict[str, int],
    size: tuple[int, int],
    dropped: Dropped,
    where: str,
) -> Thing | None:
    label, read = numbers.get(element.get("label") or ""), _SHAPES.get(element.tag)
    if read is None:
        dropped.object("of an unknown shape", where)
        return None
    if label is None:
        dropped.object("of a label that the file does not list", where)
        return None
    try:
        corners, mask = read(element, size)
    except (ValueError, OverflowError, MemoryError):
        dropped.object("whose shape cannot be read", where)
        return None
    return thing_of(label, corners, size, dropped, where, mask)


def _read_box(element: ET.Element, _: tuple[int, int]) -> Shape:
    x1, y1, x2, y2 = (_number(element, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(_number(element, "rotation", 0.0))
    if not angle:
        return (x1, y1, x2, y2), None
    points = _turned((x1 + x2) / 2, (y1 + y2) / 2, angle, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    return around(points), [points]


def _read_polygon(element: ET.Element, _: tuple[int, int]) -> Shape:
    pairs = [pair.split(",") for pair in (element.get("points") or "").split(";") if pair.strip()]
    points = [float(value) for pair in pairs for value in pair]
    if len(points) < 6 or len(points) % 2:
        raise ValueError("a polygon needs three points")
    return around(points), [points]


def _read_ellipse(element: ET.Element, _: tuple[int, int]) -> Shape:
    cx, cy, rx, ry = (_number(element, name) for name in ("cx", "cy", "rx", "ry"))
    steps = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
    corners = [(cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in steps]
    points = _turned(cx, cy, math.radians(_number(element, "rotation", 0.0)), corners)
    return around(points), [points]


def _read_mask(element: ET.Element, size: tuple[int, int]) -> Shape:
    """Runs in the order of the rows of a window, the first of them outside the object."""
    names = ("left", "top", "width", "height")
    left, top, width, height = (int(_number(element, name)) for name in names)
    runs = np.array([int(run) for run in (element.get("rle") or "").split(",")])
    inside = 0 <= left <= left + width <= size[0] and 0 <= top <= top + height <= size[1]
    if not inside or runs.min() < 0 or runs.sum() != width * height:
        raise ValueError("runs and window do not fit")
    values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    mask = np.zeros(size[::-1], np.uint8, order="F")
    mask[top : top + height, left : left + width] = values
    encoded = coco_mask.encode(mask)
    x, y, w, h = coco_mask.toBbox(encoded).tolist()
    return (x, y, x + w, y + h), dict(encoded, counts=encoded["counts"].decode())


def _turned(
    cx: float, cy: float, angle: float, corners: Sequence[tuple[float, float]]
) -> list[float]:
    """x, y, x, y, ... turned about a centre, clockwise on the screen, as CVAT does."""
    sine, cosine = math.sin(angle), math.cos(angle)
    points = []
    for x, y in corners:
        points += [
            cx + (x - cx) * cosine - (y - cy) * sine,
            cy + (x - cx) * sine + (y - cy) * cosine,
        ]
    return points


_SHAPES: dict[str, Callable[[ET.Element, tuple[int, int]], Shape]] = dict(
    box=_read_box, polygon=_read_polygon, ellipse=_read_ellipse, mask=_read_mask
)
