"""The annotations of a COCO file as arrays, to look through a million of them in seconds.

Screening may suspect an entry that is sound, but never passes a faulty one: what is suspected is
looked at by `faults.py`, one by one.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np

from milan_mm.datasets.coco.faults import (
    MARGIN,
    MAX_COORDINATE,
    MAX_OUTLINE,
    has_size,
    incomplete,
    is_box,
    is_flag,
    is_size,
)
from milan_mm.datasets.coco.run_lengths import count_pixels

_NUMBERS = {int, float}
_MAX_CHARACTERS = 1_000_000  # of run lengths that are decoded together, at 100 bytes each


class Columns:
    """Fields of N annotations.

    Args:
        annotations: Of the file; they may be anything.
        images: Of the file, complete.
        category_ids: Of the file, in its order.

    Attributes:
        complete: (N,) bool, whether all fields are there; those that are not have no image.
        image: (N,) int64, number of the image in the file, -1 for one that it does not list.
        category: (N,) int64, number of the category in the file, -1 for one it does not list.
        box: (N, 4) float64, x, y, width and height in pixels; NaN where there is no box.
        area: (N,) float64, pixels.
        crowd, ignored: (N,) bool, the flags 'iscrowd' and 'ignore'.
        size: (I, 2) float64, width and height of each image in pixels.
    """

    def __init__(self, annotations: list, images: list[dict], category_ids: Sequence) -> None:
        self._annotations = annotations
        entries = annotations
        self.complete = np.ones(len(annotations), dtype=bool)
        if not _have_all_fields(annotations):
            self.complete[:] = [not incomplete(a) for a in annotations]
            entries = [a if ok else {} for a, ok in zip(annotations, self.complete, strict=True)]
        image_of = {image["id"]: number for number, image in enumerate(images)}
        category_of = {category_id: number for number, category_id in enumerate(category_ids)}
        count = len(entries)
        self.image = _integers((image_of.get(a.get("image_id"), -1) for a in entries), count)
        self.category = _integers(
            (category_of.get(a.get("category_id"), -1) for a in entries), count
        )
        self.area = np.fromiter((a.get("area", 0.0) for a in entries), np.float64, count)
        flags = [[a.get(name) for a in entries] for name in ("iscrowd", "ignore")]
        self.crowd, self.ignored = (np.fromiter(map(bool, f), bool, count) for f in flags)
        self._odd_flags = [number for values in flags for number in _odd(values)]
        self.box = _boxes([a.get("bbox") for a in entries])
        nothing = math.nan, math.nan
        sides = chain.from_iterable(
            (i["width"], i["height"]) if has_size(i) else nothing for i in images
        )
        self.size = np.fromiter(sides, np.float64, 2 * len(images)).reshape(-1, 2)

    @cached_property
    def suspects(self) -> np.ndarray:
        """Numbers of annotations that may have anything but a faulty mask, ascending."""
        x, y, width, height = self.box.T
        image_width, image_height = self.size[self.image].T  # of any image where there is none
        with np.errstate(invalid="ignore", over="ignore"):
            inside = (
                (np.minimum(width, height) >= 0)
                & (np.minimum(x, y) >= -MARGIN)
                & (x + width <= image_width + MARGIN)
                & (y + height <= image_height + MARGIN)
            )
        sound = self.complete & inside & (self.image >= 0) & (self.category >= 0)
        sound[self.repeated] = False
        sound[self._odd_flags] = False
        return np.flatnonzero(~sound)

    @cached_property
    def repeated(self) -> list[int]:
        """Numbers of annotations that have the id of an earlier one."""
        complete = self.complete.tolist()
        ids = [a["id"] if ok else None for a, ok in zip(self._annotations, complete, strict=True)]
        if len(set(ids)) == len(ids):
            return []
        seen, repeated = set(), []
        for number, own_id in enumerate(ids):
            if own_id in seen and complete[number]:
                repeated.append(number)
            seen.add(own_id)
        return repeated

    @cached_property
    def mask_suspects(self) -> np.ndarray:
        """Numbers of annotations whose mask may be faulty, ascending."""
        found: list[int] = []
        texts: list[tuple[int, str]] = []
        sizes = self.size[:, ::-1].tolist()
        characters = 0
        for number, image in enumerate(self.image.tolist()):
            if image < 0:
                continue  # nothing to compare with, and suspected already
            mask = self._annotations[number].get("segmentation")
            if type(mask) is list:
                if not mask or not _are_polygons(mask):
                    found.append(number)
                continue
            counts = mask.get("counts") if type(mask) is dict else None
            if type(counts) is str and is_size(mask.get("size"), sizes[image]):
                texts.append((number, counts))
                characters += len(counts)
                if characters > _MAX_CHARACTERS:
                    found += self._damaged(texts)
                    texts, characters = [], 0
            elif type(counts) is not list or not _cover(counts, mask.get("size"), sizes[image]):
                found.append(number)
        found += self._damaged(texts)
        return np.array(sorted(found), dtype=np.int64)

    def _damaged(self, texts: list[tuple[int, str]]) -> Iterator[int]:
        """Those of the (number, run lengths) that are damaged or of another size."""
        totals = count_pixels([text for _, text in texts])
        for (number, _), total in zip(texts, totals.tolist(), strict=True):
            if total != math.prod(self.size[self.image[number]]):
                yield number


def _have_all_fields(annotations: list) -> bool:
    """Whether all annotations are complete beyond doubt."""
    if set(map(type, annotations)) > {dict}:
        return False
    try:
        ids = (map(type, [a[name] for a in annotations]) for name in ("image_id", "category_id"))
        own_ids = set(map(type, [a["id"] for a in annotations]))
        areas = [a["area"] for a in annotations]
        if None in [a["bbox"] for a in annotations]:
            return False
    except (KeyError, TypeError):
        return False
    if not (set(chain(*ids)) <= {int} and own_ids <= {int, str}):
        return False
    try:
        return set(map(type, areas)) <= _NUMBERS and math.isfinite(math.fsum(areas))
    except (OverflowError, ValueError):  # huge, or both infinities
        return False


def _integers(values: Iterator[int], count: int) -> np.ndarray:
    return np.fromiter(values, np.int64, count)


def _boxes(boxes: list) -> np.ndarray:
    """(N, 4), NaN where there is no box."""
    try:
        if set(map(len, boxes)) <= {4} and set(map(type, chain.from_iterable(boxes))) <= _NUMBERS:
            values = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes))
            values = values.reshape(-1, 4)
            values[~np.isfinite(values).all(axis=1)] = np.nan
            return values
    except (TypeError, OverflowError):
        pass
    nothing = [math.nan] * 4
    return np.array([b if is_box(b) else nothing for b in boxes], np.float64).reshape(-1, 4)


def _odd(flags: list) -> list[int]:
    """Numbers of the values that are neither 0 nor 1."""
    if set(map(type, flags)) <= {int, type(None)} and set(flags) <= {0, 1, None}:
        return []
    return [number for number, value in enumerate(flags) if not is_flag(value)]


def _are_polygons(mask: list) -> bool:
    """Whether all parts are polygons of moderate, finite numbers.

    The root of the sum of squares is NaN with any NaN, and as large as the largest of them; times
    2 and the root of their number, it is at least as long as the outline.
    """
    length = 0.0
    try:
        for part in mask:
            if type(part) is not list or len(part) < 6 or len(part) % 2:
                return False
            root = math.hypot(*part)
            length += 2 * root * math.sqrt(len(part))
            if not (root <= MAX_COORDINATE and length <= MAX_OUTLINE):
                return False
    except (TypeError, OverflowError):
        return False
    return True


def _cover(counts: list, size: object, wanted: list[float]) -> bool:
    """Whether uncompressed run lengths are whole numbers that cover an image of this size."""
    try:
        whole = set(map(type, counts)) == {int}
        return (
            is_size(size, wanted)
            and whole
            and min(counts) >= 0
            and sum(counts) == math.prod(wanted)
        )
    except (TypeError, OverflowError):
        return False
