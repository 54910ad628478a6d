"""Everything that can be wrong with an entry of a COCO file, and what its owner can do about it.

The functions here look at one entry and are exact. `coco_columns.py` finds the few entries of a
million that are worth looking at.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple, TypeGuard

import numpy as np

from milan_mm.datasets.coco.run_lengths import count_pixels
from milan_mm.datasets.decoding import MORE_PIXELS, max_pixels
from milan_mm.datasets.folders import leads_out
from milan_mm.text import shorten, shorten_list, shown

MARGIN = 2.0  # pixels that a box may reach beyond its image, by rounding
MAX_COORDINATE = 100_000.0  # pixels; pycocotools allocates by distance, and crashes at 1e9
MAX_OUTLINE = 2_000_000.0  # pixels, of all polygons of a mask together: 200 MB in pycocotools
MAX_OBJECTS = 10_000  # of an image; a detector compares each with each of 100,000 anchors
MAX_MASKS = 16 * 2**30  # bytes, of all masks of an image, as mmdet decodes them
_NUMBER = (int, float)
_ID = (int, float, str)
# What each entry needs, by the name of its list. A box is looked into later.
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = dict(
    images=dict(id=_ID, file_name=str, height=_NUMBER, width=_NUMBER),
    annotations=dict(id=_ID, image_id=_ID, category_id=_ID, bbox=object, area=_NUMBER),
    categories=dict(id=_ID, name=str),
)


class Kind(StrEnum):
    """What can be wrong with an entry; each completes the sentence "17 ..."."""

    SHARED_CATEGORY = "categories share a name or an id"
    SHARED_IMAGE = "images share an id"
    TEXT_ID = "ids are not whole numbers"
    STRANGE_NAME = "file names lead out of the folder of the images"
    NO_SIZE = "images have no size"
    TOO_LARGE = "images have more pixels than the limit"
    CROWDED = "images have more objects than the limit"
    INCOMPLETE = "annotations are incomplete"
    BAD_FLAG = "annotations have flags (iscrowd, ignore) other than 0 and 1"
    SHARED_ID = "annotations share an id"
    UNKNOWN_CATEGORY = "annotations have a category that the file does not list"
    UNKNOWN_IMAGE = "annotations have an image that the file does not list"
    NO_BOX = "annotations have no box of four numbers"
    BOX_OUTSIDE = "boxes are not inside their image"
    NO_MASK = "annotations have no mask"
    MASK_SIZE = "masks have another size than their image"
    BAD_RUNS = "masks have run lengths that are damaged"
    NO_POLYGON = "masks have no polygon of three or more points"
    BAD_POLYGON = "masks have polygons of fewer than three points"
    BAD_COORDINATE = "masks have coordinates that are not pixels"
    LONG_OUTLINE = "masks have outlines that are longer than the limit"


# What the owner of the file can do; published files should be unpacked again instead.
REMEDIES = {
    Kind.SHARED_CATEGORY: "merge them",
    Kind.SHARED_IMAGE: "give every image an id of its own, and its annotations the same",
    Kind.TEXT_ID: "number images and categories, and use these numbers in the annotations",
    Kind.STRANGE_NAME: "give names relative to the folder of the images",
    Kind.NO_SIZE: "set height and width to those of the image file",
    Kind.TOO_LARGE: f"correct the size, shrink the image, or set {MORE_PIXELS}",
    Kind.CROWDED: "cut the image into tiles, or remove annotations",
    Kind.BAD_FLAG: "write 0 or 1",
    Kind.INCOMPLETE: "export the file again, or complete it",
    Kind.SHARED_ID: "number the annotations",
    Kind.UNKNOWN_CATEGORY: "add the category, or remove the annotation",
    Kind.UNKNOWN_IMAGE: "add the image, or remove the annotation",
    Kind.NO_BOX: "correct or remove the annotation",
    Kind.BOX_OUTSIDE: "correct or remove the annotation",
    Kind.NO_MASK: "annotate the masks, or take a detector without a mask head",
    Kind.MASK_SIZE: "export the masks at the size of the image",
    Kind.BAD_RUNS: "export the mask again",
    Kind.NO_POLYGON: "annotate the mask again, or remove the annotation",
    Kind.BAD_POLYGON: "correct or remove the polygon",
    Kind.BAD_COORDINATE: "correct or remove the annotation",
    Kind.LONG_OUTLINE: "correct or remove the annotation",
}


class Problem(NamedTuple):
    """One entry with something wrong.

    Attributes:
        entry: E.g. 'annotation 7'.
        detail: Completes the sentence, e.g. 'has no mask'.
        image_id: Of the image that cannot be used for it, if any.
    """

    kind: Kind
    entry: str
    detail: str
    image_id: int | float | str | None = None

    def __str__(self) -> str:
        return f"{self.entry} {self.detail}"


def wrong_field(entry: object, fields: Mapping) -> str:
    """The first field that is missing or of another type, '' if there is none."""
    if not isinstance(entry, dict):
        return f"is {shown(entry)}"
    for name, types in fields.items():
        value = entry.get(name)
        if value is None:
            return f"has no '{name}'"
        if not isinstance(value, types):
            return f"has {name} {shown(value)}"
    return ""


def incomplete(annotation: object) -> str:
    """Which fields that a detector needs are missing from an annotation; '' for none.

    A mask may be missing, and the box may be anything.
    """
    if detail := wrong_field(annotation, FIELDS["annotations"]):
        return detail
    area = annotation["area"]  # type: ignore[index]
    return "" if is_finite(area) else f"has area {area!r}"


def entry_name(number: int, annotation: object) -> str:
    """The name of an annotation that may have no id."""
    own_id = annotation.get("id") if isinstance(annotation, dict) else None
    known = isinstance(own_id, _ID)
    return f"annotation {shorten(str(own_id))}" if known else f"annotation number {number}"


def image_name(image: dict) -> str:
    """What messages call an image."""
    return f"image '{shorten(image['file_name'])}'"


def size_of(image: dict) -> str:
    """'WIDTHxHEIGHT' as the file states them."""
    return f"{image['width']}x{image['height']}"


def is_finite(value: float) -> bool:
    """Also of whole numbers that are too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_box(box: object) -> TypeGuard[list[float]]:
    """Whether this is a list of four finite numbers."""
    return _are_numbers(box) and len(box) == 4 and all(map(is_finite, box))


def image_problems(image: dict) -> Iterator[tuple[Kind, str]]:
    """What is wrong with an image that has all of its fields."""
    if not is_number_id(image["id"]):
        yield Kind.TEXT_ID, f"has id {image['id']!r}, not a whole number"
    if leads_out(image["file_name"]):
        yield Kind.STRANGE_NAME, "is not a name inside a folder"
    if not has_size(image):
        yield Kind.NO_SIZE, f"has a size of {size_of(image)}"
    elif (pixels := image["height"] * image["width"]) > max_pixels():
        yield Kind.TOO_LARGE, f"has {pixels:,} pixels, the limit is {max_pixels():,}"


def has_size(image: dict) -> bool:
    """Whether height and width are whole numbers of pixels."""
    sides = image["height"], image["width"]
    return all(isinstance(side, int) and 0 < side < 1 << 31 for side in sides)


def is_number_id(own_id: object) -> bool:
    """Whether this is a whole number that an evaluation can store."""
    return isinstance(own_id, int) and abs(own_id) < 1 << 63


def object_problems(
    annotation: dict, image: dict | None, category_ids: Collection, chosen: bool, with_masks: bool
) -> Iterator[tuple[Kind, str]]:
    """What is wrong with an annotation that is complete.

    Args:
        image: That of the annotation, if the file lists it.
        category_ids: Those that the file lists.
        chosen: Its category will be used; otherwise only what every reader trips over counts.
        with_masks: Look into the mask, too.
    """
    for name in ("image_id", "category_id"):
        if not isinstance(annotation[name], int):
            yield Kind.TEXT_ID, f"has {name} {shown(annotation[name])}, not a whole number"
            return
    category_id, box = annotation["category_id"], annotation["bbox"]
    if chosen and category_id not in category_ids:
        detail = f"which is none of the categories {shorten_list(category_ids)}"
        yield Kind.UNKNOWN_CATEGORY, f"has category_id {shown(category_id)}, {detail}"
        chosen = False
    if image is None:
        if chosen or category_id not in category_ids:
            yield Kind.UNKNOWN_IMAGE, f"has image_id {shown(annotation['image_id'])}"
        return
    if not is_box(box):
        yield Kind.NO_BOX, f"has bbox {shown(box)}, not [x, y, width, height]"
    elif chosen and has_size(image) and not _is_inside(box, image):
        detail = f"has bbox [x, y, width, height] {box} on an image of {size_of(image)}"
        yield Kind.BOX_OUTSIDE, detail
    if chosen and not all(is_flag(annotation.get(name)) for name in ("iscrowd", "ignore")):
        flags = ", ".join(f"{n} {shown(annotation.get(n))}" for n in ("iscrowd", "ignore"))
        yield Kind.BAD_FLAG, f"has {flags}"
    if chosen and with_masks and has_size(image):
        yield from mask_problems(annotation.get("segmentation"), image)


def is_flag(value: object) -> bool:
    """Whether this is 0 or 1, or left out."""
    return value is None or (isinstance(value, _NUMBER) and value in (0, 1))


def outline(mask: list) -> float:
    """Length of the closed polygons of a mask in pixels, the larger of both directions.

    pycocotools takes memory for each of these pixels.
    """
    total = 0.0
    for part in filter(is_polygon, mask):
        points = np.array(part, np.float64).reshape(-1, 2)
        total += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    return total


def is_polygon(part: object) -> TypeGuard[list[float]]:
    """Whether this is a list of three or more points [x, y, x, y, ...]."""
    return _are_numbers(part) and len(part) >= 6 and len(part) % 2 == 0


def _are_numbers(values: object) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(isinstance(value, _NUMBER) for value in values)


def _is_inside(box: list[float], image: dict) -> bool:
    x, y, width, height = box
    return (
        min(width, height) >= 0
        and min(x, y) >= -MARGIN
        and x + width <= image["width"] + MARGIN
        and y + height <= image["height"] + MARGIN
    )


def mask_problems(mask: object, image: dict) -> Iterator[tuple[Kind, str]]:
    """What is wrong with a `segmentation`.

    It is a list of polygons, or run lengths with the (height, width) of the image.
    """
    if isinstance(mask, dict):
        yield from _run_problems(mask, [image["height"], image["width"]])
    elif not isinstance(mask, list) or not mask:
        yield Kind.NO_MASK, "has no mask (segmentation)"
    else:
        wrong = sum(not is_polygon(part) for part in mask)
        if wrong == len(mask):
            yield Kind.NO_POLYGON, "has no polygon of three or more points [x, y, x, y, ...]"
        elif wrong:
            detail = f"has {wrong} of {len(mask)} polygons that are not three or more points"
            yield Kind.BAD_POLYGON, detail
        values = [v for part in mask if is_polygon(part) for v in part]
        if far := [v for v in values if not (is_finite(v) and abs(v) <= MAX_COORDINATE)]:
            detail = (
                f"has a mask with the coordinate {shown(far[0])}, the limit is {MAX_COORDINATE:.0f}"
            )
            yield Kind.BAD_COORDINATE, detail
        elif (length := outline(mask)) > MAX_OUTLINE:
            detail = f"has an outline of {length:,.0f} pixels, the limit is {MAX_OUTLINE:,.0f}"
            yield Kind.LONG_OUTLINE, detail


def is_size(stated: object, size: list) -> bool:
    """Whether a mask states the size of its image in whole numbers, as pycocotools wants it."""
    return isinstance(stated, list) and stated == size and {*map(type, stated)} == {int}


def _run_problems(mask: dict, size: list) -> Iterator[tuple[Kind, str]]:
    counts = mask.get("counts")
    if not is_size(mask.get("size"), size):
        stated = shown(mask.get("size"))
        detail = f"has a mask of (height, width) {stated} on an image of {size}"
        yield Kind.MASK_SIZE, detail
    elif not counts:
        yield Kind.NO_MASK, "has a mask without counts"
    elif isinstance(counts, list):
        if not (all(isinstance(c, int) for c in counts) and min(counts) >= 0):
            yield Kind.BAD_RUNS, "has a mask whose counts are not whole numbers of pixels"
        elif sum(counts) != math.prod(size):
            detail = f"has a mask whose counts do not add up to {math.prod(size)} pixels"
            yield Kind.MASK_SIZE, detail
    elif not isinstance(counts, str) or count_pixels([counts])[0] != math.prod(size):
        detail = (
            f"has a mask whose counts {shown(counts, 22)} do not decode to {math.prod(size)} pixels"
        )
        yield Kind.BAD_RUNS, detail
