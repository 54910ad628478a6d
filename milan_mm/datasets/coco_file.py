"""COCO's annotation files: read once, and everything that can be wrong with one.

Callers decide what is fatal and how deep to check: `--data` wants classes
and objects (run/own_data/detection.py), the check before a start what this detector will need
(run/checks/coco.py), and tools/check_data.py everything (upkeep/check_coco.py).
"""

import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeGuard

from milan_mm.datasets.folders import missing_files
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list

MARGIN = 2.0  # pixels that a box may reach beyond its image, by rounding
_NUMBER = (int, float)
_ID = (int, float, str)
# What each entry needs, by the name of its list. A box is looked into later.
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = dict(
    images=dict(id=_ID, file_name=str, height=_NUMBER, width=_NUMBER),
    annotations=dict(id=_ID, image_id=_ID, category_id=_ID, bbox=object, area=_NUMBER),
    categories=dict(id=_ID, name=str),
)


class Kind(StrEnum):
    """What can be wrong with an entry; each completes the sentence "17 ..."."""

    SHARED_CATEGORY = "categories share a name or an id"
    SHARED_IMAGE = "images share an id"
    NO_SIZE = "images have no size"
    INCOMPLETE = "annotations are incomplete"
    SHARED_ID = "annotations share an id"
    UNKNOWN_CATEGORY = "annotations have a category that the file does not list"
    UNKNOWN_IMAGE = "annotations have an image that the file does not list"
    NO_BOX = "annotations have no box of four numbers"
    BOX_OUTSIDE = "boxes are not inside their image"
    NO_MASK = "annotations have no mask"
    MASK_SIZE = "masks have another size than their image"
    NO_POLYGON = "masks have no polygon of three or more points"
    BAD_POLYGON = "masks have polygons of fewer than three points"


# What the owner of the file can do; published files should be unpacked again instead.
REMEDIES = {
    Kind.SHARED_CATEGORY: "merge them",
    Kind.SHARED_IMAGE: "give every image an id of its own, and its annotations the same",
    Kind.NO_SIZE: "set height and width to those of the image file",
    Kind.INCOMPLETE: "export the file again, or complete it",
    Kind.SHARED_ID: "number the annotations",
    Kind.UNKNOWN_CATEGORY: "add the category, or remove the annotation",
    Kind.UNKNOWN_IMAGE: "add the image, or remove the annotation",
    Kind.NO_BOX: "correct or remove the annotation",
    Kind.BOX_OUTSIDE: "correct or remove the annotation",
    Kind.NO_MASK: "annotate the masks, or take a detector without a mask head",
    Kind.MASK_SIZE: "export the masks at the size of the image",
    Kind.NO_POLYGON: "annotate the mask again; mmdet trains without this object",
    Kind.BAD_POLYGON: "correct or remove the polygon",
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


@dataclass(frozen=True)
class CocoFile:
    """A file in COCO's format: its images and categories have all that `_FIELDS` asks for.

    Annotations may be anything; see `problems`.
    """

    path: Path
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]

    @cached_property
    def images_by_id(self) -> dict[int | float | str, dict]:
        return {image["id"]: image for image in self.images}

    @cached_property
    def category_names(self) -> dict[int | float | str, str]:
        """By id, in the order of the file, by which mmdet numbers the classes."""
        return {category["id"]: category["name"] for category in self.categories}

    def problems(
        self, category_ids: Collection | None = None, with_masks: bool = True
    ) -> Iterator[Problem]:
        """Everything that is wrong inside the file, in its order.

        Args:
            category_ids: Those that will be used. Of annotations of others only their fields and
                ids are checked; None checks all.
            with_masks: Look into masks, too.
        """
        yield from self._category_problems(category_ids)
        yield from self._image_problems()
        seen = set()
        for number, annotation in enumerate(self.annotations):
            if detail := _incomplete(annotation):
                yield Problem(Kind.INCOMPLETE, _entry(number, annotation), detail)
                continue
            entry, image_id = f"annotation {annotation['id']}", annotation["image_id"]
            if annotation["id"] in seen:
                yield Problem(Kind.SHARED_ID, entry, "has the id of another annotation")
            seen.add(annotation["id"])
            if category_ids is not None and annotation["category_id"] not in category_ids:
                continue
            for kind, detail in self._object_problems(annotation, with_masks):
                yield Problem(kind, entry, detail, image_id)

    def refuse(
        self,
        fatal: Collection[Kind],
        category_ids: Collection | None = None,
        with_masks: bool = True,
    ) -> None:
        """Raise for the first problem of a fatal kind.

        Args:
            fatal: These kinds. category_ids, with_masks: See `problems`.

        Raises:
            UserError: Names the entry, the file and the remedy.
        """
        for problem in self.problems(category_ids, with_masks):
            if problem.kind in fatal:
                raise UserError(
                    f"{problem.entry} of '{self.path}' {problem.detail}: {REMEDIES[problem.kind]}"
                )

    def objects(self, category_ids: Collection | None = None) -> list[dict]:
        """Annotations that a detector learns from; mmdet silently ignores the others.

        Crowds do not count, nor does anything smaller than a pixel. To be called after `refuse`:
        annotations must be complete and have boxes.

        Args:
            category_ids: Those that will be used; None takes all of the file's.

        Raises:
            UserError: When there are none.
        """
        chosen = self.category_names if category_ids is None else category_ids
        found = [
            a
            for a in self.annotations
            if a["category_id"] in chosen
            and a["image_id"] in self.images_by_id
            and not a.get("iscrowd")
            and a["area"] > 0
            and min(a["bbox"][2:]) >= 1
        ]
        if not found:
            raise UserError(
                f"annotation file '{self.path}' has no object on its {len(self.images)} images, "
                f"out of {len(self.annotations)} annotations: there is nothing to learn, and AP is "
                "undefined: annotate some"
            )
        return found

    def check_images(self, folder: Path, limit: float, remedy: str) -> None:
        """Look for the image files.

        Args:
            folder: That the file names refer to.
            limit: Share that may be missing, 0 to 1.
            remedy: What the user can do, for the message.

        Raises:
            MissingFileError: When more are missing; names the first.
        """
        missing = missing_files([image["file_name"] for image in self.images], folder)
        if len(missing) > limit * len(self.images):
            raise MissingFileError(
                f"{len(missing)} of the {len(self.images)} images of '{self.path}' are not in "
                f"'{folder}', first '{missing[0]}': {remedy}"
            )

    def _category_problems(self, category_ids: Collection | None) -> Iterator[Problem]:
        ids, names = set(), set()
        for category in self.categories:
            entry = f"category {category['id']}"
            if category_ids is not None and category["id"] not in category_ids:
                continue
            if category["id"] in ids:
                yield Problem(Kind.SHARED_CATEGORY, entry, "is listed twice")
            elif category["name"] in names:
                detail = f"is one of several categories named '{category['name']}'"
                yield Problem(Kind.SHARED_CATEGORY, entry, detail)
            ids.add(category["id"])
            names.add(category["name"])

    def _image_problems(self) -> Iterator[Problem]:
        seen = set()
        for image in self.images:
            entry, image_id = f"image '{image['file_name']}'", image["id"]
            if image_id in seen:
                yield Problem(
                    Kind.SHARED_IMAGE, entry, f"has the id {image_id} of another image", image_id
                )
            seen.add(image_id)
            if not min(image["height"], image["width"]) > 0:
                yield Problem(Kind.NO_SIZE, entry, f"has a size of {size_of(image)}", image_id)

    def _object_problems(self, annotation: dict, with_masks: bool) -> Iterator[tuple[Kind, str]]:
        category_id, box = annotation["category_id"], annotation["bbox"]
        if category_id not in self.category_names:
            detail = f"which is none of the categories {shorten_list(self.category_names)}"
            yield Kind.UNKNOWN_CATEGORY, f"has category_id {category_id}, {detail}"
        image = self.images_by_id.get(annotation["image_id"])
        if image is None:
            yield Kind.UNKNOWN_IMAGE, f"has image_id {annotation['image_id']}"
            return
        if not is_box(box):
            yield Kind.NO_BOX, f"has bbox {box!r}, not [x, y, width, height]"
        elif not _is_inside(box, image):
            detail = f"has bbox [x, y, width, height] {box} on an image of {size_of(image)}"
            yield Kind.BOX_OUTSIDE, detail
        if with_masks:
            yield from _mask_problems(annotation.get("segmentation"), image)


def read_coco(path: Path, with_annotations: bool = True) -> CocoFile:
    """Read an annotation file.

    Args:
        with_annotations: False for images to be predicted, whose file need not have any.

    Raises:
        MissingFileError: When there is no such file.
        UserError: When it is not JSON or not in COCO's format, or lists no image or no category.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingFileError(f"annotation file '{path}' does not exist") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"annotation file '{path}' is not a JSON file: {error}") from None
    lists: dict[str, list[dict]] = {}
    for name in _FIELDS:
        found = content.get(name) if isinstance(content, dict) else None
        if name == "annotations" and not with_annotations:
            found = []
        if not isinstance(found, list):
            raise UserError(
                f"annotation file '{path}' has no list '{name}': COCO's format needs "
                + ", ".join(_FIELDS)
            )
        lists[name] = found
    for name in ("images", "categories"):
        for number, entry in enumerate(lists[name]):
            if detail := _wrong_field(entry, _FIELDS[name]):
                raise UserError(
                    f"annotation file '{path}' is not in COCO's format: number {number} of its "
                    f"{name} {detail}"
                )
    file = CocoFile(path, **lists)
    if not file.images or not file.categories:
        raise UserError(
            f"annotation file '{path}' lists {len(file.images)} images and "
            f"{len(file.categories)} categories: at least one of each is needed"
        )
    return file


def size_of(image: dict) -> str:
    """'WIDTHxHEIGHT' as the file states them."""
    return f"{image['width']}x{image['height']}"


def is_box(box: object) -> TypeGuard[list[float]]:
    """Whether this is a list of four finite numbers."""
    return _are_numbers(box) and len(box) == 4 and all(map(math.isfinite, box))


def is_complete(annotation: object) -> bool:
    """Whether an annotation has all fields that a detector needs; a mask may be missing."""
    return not _incomplete(annotation)


def _incomplete(annotation: object) -> str:
    return _wrong_field(annotation, _FIELDS["annotations"])


def _wrong_field(entry: object, fields: dict) -> str:
    """The first field that is missing or of another type, '' if there is none."""
    if not isinstance(entry, dict):
        return f"is {entry!r}"
    for name, types in fields.items():
        value = entry.get(name)
        if value is None:
            return f"has no '{name}'"
        if not isinstance(value, types):
            return f"has {name} {value!r}"
    return ""


def _entry(number: int, annotation: object) -> str:
    """The name of an annotation that may have no id."""
    own_id = annotation.get("id") if isinstance(annotation, dict) else None
    return f"annotation {own_id}" if isinstance(own_id, _ID) else f"annotation number {number}"


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


def _mask_problems(mask: object, image: dict) -> Iterator[tuple[Kind, str]]:
    """A mask is a list of polygons, or run lengths with the (height, width) of the image."""
    if isinstance(mask, dict):
        size = [image["height"], image["width"]]
        counts = mask.get("counts")
        if mask.get("size") != size:
            detail = f"has a mask of (height, width) {mask.get('size')} on an image of {size}"
            yield Kind.MASK_SIZE, detail
        elif not counts:
            yield Kind.NO_MASK, "has a mask without counts"
        elif isinstance(counts, list) and not (
            _are_numbers(counts) and sum(counts) == math.prod(size)
        ):
            detail = f"has a mask whose counts do not add up to {math.prod(size)} pixels"
            yield Kind.MASK_SIZE, detail
    elif not isinstance(mask, list) or not mask:
        yield Kind.NO_MASK, "has no mask (segmentation)"
    else:
        wrong = sum(not _is_polygon(part) for part in mask)
        if wrong == len(mask):
            yield Kind.NO_POLYGON, "has no polygon of three or more points [x, y, x, y, ...]"
        elif wrong:
            detail = f"has {wrong} of {len(mask)} polygons that are not three or more points"
            yield Kind.BAD_POLYGON, detail


def _is_polygon(part: object) -> bool:
    return _are_numbers(part) and len(part) >= 6 and len(part) % 2 == 0
