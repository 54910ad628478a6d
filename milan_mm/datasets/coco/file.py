"""The content of a COCO annotation file, and what is wrong with it.

Callers decide what is fatal and how deep to check: `--data` wants classes
and objects (run/own_data/detection.py), the check before a start what this detector will need
(run/checks/coco.py), and tools/check_data.py everything (upkeep/check_coco.py).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from milan_mm.datasets.coco.columns import Columns
from milan_mm.datasets.coco.faults import (
    MAX_MASKS,
    MAX_OBJECTS,
    REMEDIES,
    Kind,
    Problem,
    entry_name,
    image_name,
    image_problems,
    incomplete,
    is_number_id,
    object_problems,
)
from milan_mm.datasets.collection import paused_collection
from milan_mm.datasets.folders import leads_out, missing_files
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten


@dataclass(frozen=True)
class CocoFile:
    """A file in COCO's format: its images and categories have all that `FIELDS` asks for.

    Annotations may be anything; see `problems`.

    Attributes:
        areas_set: Annotations without a mask whose area was 0, and is that of the box now.
        has_annotations: Whether there is a list of annotations, which may be empty.
    """

    path: Path
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]
    areas_set: int = 0
    has_annotations: bool = True

    @cached_property
    def images_by_id(self) -> dict[int | float | str, dict]:
        return {image["id"]: image for image in self.images}

    @property
    def names(self) -> list[str]:
        """Of the image files, without those that lead out of a folder, which nobody may open."""
        names = (image["file_name"] for image in self.images)
        return [name for name in names if not leads_out(name)]

    @cached_property
    def category_names(self) -> dict[int | float | str, str]:
        """By id, in the order of the file, by which mmdet numbers the classes."""
        return {category["id"]: category["name"] for category in self.categories}

    @cached_property
    def columns(self) -> Columns:
        with paused_collection():
            return Columns(self.annotations, self.images, list(self.category_names))

    def problems(
        self, category_ids: Collection | None = None, with_masks: bool = True
    ) -> Iterator[Problem]:
        """Everything that is wrong inside the file, in its order.

        Args:
            category_ids: Those that will be used. Of annotations of others only fields, ids and
                boxes are checked; None checks all.
            with_masks: Look into masks, too.
        """
        yield from self._category_problems(category_ids)
        yield from self._image_problems()
        yield from self._crowded(with_masks)
        suspects = self.columns.suspects
        if with_masks:
            suspects = np.union1d(suspects, self.columns.mask_suspects)
        repeated = set(self.columns.repeated)
        for number in suspects.tolist():
            annotation = self.annotations[number]
            entry = entry_name(number, annotation)
            if detail := incomplete(annotation):
                yield Problem(Kind.INCOMPLETE, entry, detail)
                continue
            image_id, category_id = annotation["image_id"], annotation["category_id"]
            if number in repeated:
                yield Problem(Kind.SHARED_ID, entry, "has the id of another annotation")
            chosen = (
                category_ids is None
                or category_id in category_ids
                or category_id not in self.category_names
            )
            image = self.images_by_id.get(image_id)
            for kind, detail in object_problems(
                annotation, image, self.category_names, chosen, with_masks
            ):
                yield Problem(kind, entry, detail, image_id)

    def refuse(self, fatal: Collection[Kind], problems: Iterable[Problem]) -> None:
        """Raise for the first problem of a fatal kind.

        Args:
            fatal: These kinds. problems: See `problems`.

        Raises:
            UserError: Names the entry, the file and the remedy.
        """
        for problem in problems:
            if problem.kind in fatal:
                raise UserError(
                    f"{problem.entry} of '{self.path}' {problem.detail}: {REMEDIES[problem.kind]}"
                )

    def check_images(self, folder: Path, limit: float, remedy: str) -> None:
        """Look for the image files.

        Args:
            folder: That the file names refer to.
            limit: Share that may be missing, 0 to 1.
            remedy: What the user can do, for the message.

        Raises:
            MissingFileError: When more are missing; names the first.
        """
        missing = missing_files(self.names, folder)
        if len(missing) > limit * len(self.images):
            raise MissingFileError(
                f"{len(missing)} of the {len(self.images)} images of '{self.path}' are not in "
                f"'{folder}', first '{missing[0]}': {remedy}"
            )

    def _category_problems(self, category_ids: Collection | None) -> Iterator[Problem]:
        ids, names = set(), set()
        for category in self.categories:
            entry = f"category {shorten(str(category['id']))}"
            if category_ids is not None and category["id"] not in category_ids:
                continue
            if not is_number_id(category["id"]):
                detail = f"'{shorten(category['name'])}' has an id that is not a whole number"
                yield Problem(Kind.TEXT_ID, entry, detail)
            if category["id"] in ids:
                yield Problem(Kind.SHARED_CATEGORY, entry, "is listed twice")
            elif category["name"] in names:
                detail = f"is one of several categories named '{shorten(category['name'])}'"
                yield Problem(Kind.SHARED_CATEGORY, entry, detail)
            ids.add(category["id"])
            names.add(category["name"])

    def _crowded(self, with_masks: bool) -> Iterator[Problem]:
        """Images whose objects would fill the memory of whoever learns from them."""
        places = self.columns.image
        counts = np.bincount(places[places >= 0], minlength=len(self.images))
        for number in np.flatnonzero(counts > MAX_OBJECTS).tolist():
            detail = f"has {counts[number]:,} objects, the limit is {MAX_OBJECTS:,}"
            image = self.images[number]
            yield Problem(Kind.CROWDED, image_name(image), detail, image["id"])
        size = counts * self.columns.size.prod(axis=1)
        crowded = with_masks & (counts <= MAX_OBJECTS) & (size > MAX_MASKS)
        for number in np.flatnonzero(crowded).tolist():
            detail = (
                f"has {counts[number]:,} objects, whose masks would take "
                f"{size[number] / 2**30:,.0f} GiB, the limit is {MAX_MASKS / 2**30:.0f}"
            )
            image = self.images[number]
            yield Problem(Kind.CROWDED, image_name(image), detail, image["id"])

    def _image_problems(self) -> Iterator[Problem]:
        seen = set()
        for image in self.images:
            entry, image_id = image_name(image), image["id"]
            if image_id in seen:
                detail = f"has the id {shorten(str(image_id))} of another image"
                yield Problem(Kind.SHARED_IMAGE, entry, detail, image_id)
            seen.add(image_id)
            for kind, detail in image_problems(image):
                yield Problem(kind, entry, detail, image_id)
