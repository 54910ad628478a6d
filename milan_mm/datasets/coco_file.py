"""COCO's annotation files: read once in a process, and checked.

Callers decide what is fatal and how deep to check: `--data` wants classes
and objects (run/own_data/detection.py), the check before a start what this detector will need
(run/checks/coco.py), and tools/check_data.py everything (upkeep/check_coco.py). The data set
(coco_dataset.py) and the metric take what was read for the checks.
"""

import gc
import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from milan_mm.datasets.coco_columns import Columns
from milan_mm.datasets.coco_faults import (
    FIELDS,
    REMEDIES,
    Kind,
    Problem,
    entry_name,
    image_problems,
    incomplete,
    is_box,
    is_number_id,
    object_problems,
    wrong_field,
)
from milan_mm.datasets.folders import missing_files
from milan_mm.errors import MissingFileError, UserError

# What was read and is not taken yet: an annotation file of COCO's size takes 10 s and 3 GiB.
_kept: dict[tuple, "CocoFile"] = {}


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
            if not is_number_id(category["id"]):
                detail = f"'{category['name']}' has an id that is not a whole number"
                yield Problem(Kind.TEXT_ID, entry, detail)
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
            for kind, detail in image_problems(image):
                yield Problem(kind, entry, detail, image_id)


def read_coco(path: Path, with_annotations: bool = True) -> CocoFile:
    """Read an annotation file, or return what was read of it and not taken yet.

    Args:
        with_annotations: False for images to be predicted, whose file need not have any.

    Raises:
        MissingFileError: When there is no such file.
        UserError: When it is not JSON or not in COCO's format, or lists no image or no category.
    """
    key = _key(path)
    if key not in _kept:
        for other in [other for other in _kept if other[0] == key[0]]:
            del _kept[other]  # another state of the same file
        _kept[key] = _read(path, with_annotations)
    if with_annotations and not _kept[key].has_annotations:
        raise _no_list(path, "annotations")
    return _kept[key]


def take_coco(path: Path, with_annotations: bool = True) -> CocoFile:
    """As `read_coco`, for the last reader: nothing is kept, so the memory goes with what it holds.

    Raises:
        MissingFileError, UserError: See `read_coco`.
    """
    file = read_coco(path, with_annotations)
    for key in [key for key, kept in _kept.items() if kept is file]:
        del _kept[key]
    return file


@contextmanager
def paused_collection() -> Iterator[None]:
    """Python's search for unreachable circles would look at millions of new objects many times."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _key(path: Path) -> tuple:
    try:
        state = path.stat()
    except OSError:
        return (str(path),)  # `_read` says what is wrong
    return str(path.resolve()), state.st_mtime_ns, state.st_size


def _no_list(path: Path, name: str) -> UserError:
    return UserError(
        f"annotation file '{path}' has no list '{name}': COCO's format needs " + ", ".join(FIELDS)
    )


def _read(path: Path, with_annotations: bool) -> CocoFile:
    lists: dict[str, list[dict]] = {}
    content = _parse(path)
    for name in FIELDS:
        found = content.get(name) if isinstance(content, dict) else None
        if name == "annotations" and not with_annotations and found is None:
            found = []
        if not isinstance(found, list):
            raise _no_list(path, name)
        lists[name] = found
    for name in ("images", "categories"):
        for number, entry in enumerate(lists[name]):
            if detail := wrong_field(entry, FIELDS[name]):
                raise UserError(
                    f"annotation file '{path}' is not in COCO's format: number {number} of its "
                    f"{name} {detail}"
                )
    if not lists["images"] or not lists["categories"]:
        raise UserError(
            f"annotation file '{path}' lists {len(lists['images'])} images and "
            f"{len(lists['categories'])} categories: at least one of each is needed"
        )
    for entries in lists.values():
        _make_ids_whole(entries)
    has_annotations = isinstance(content, dict) and content.get("annotations") is not None
    areas_set = _set_areas(lists["annotations"])
    return CocoFile(path, **lists, areas_set=areas_set, has_annotations=has_annotations)


def _parse(path: Path) -> object:
    """The content of a JSON file in UTF-8, with or without a mark of byte order, or UTF-16."""
    try:
        content = path.read_bytes()
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        del content  # half a gigabyte in the case of COCO
        with paused_collection():
            return json.loads(text)
    except FileNotFoundError:
        raise MissingFileError(f"annotation file '{path}' does not exist") from None
    except RecursionError:
        raise UserError(f"annotation file '{path}' is nested too deeply to be COCO's") from None
    except ValueError as error:  # of JSON or of its encoding
        raise UserError(f"annotation file '{path}' is not a JSON file: {error}") from None


def _make_ids_whole(entries: list) -> None:
    """Write 7.0, as tables with gaps are exported, as 7."""
    for name in ("id", "image_id", "category_id"):
        for entry in entries:
            if isinstance(entry, dict) and type(entry.get(name)) is float:
                value = entry[name]
                entry[name] = int(value) if value.is_integer() else value


def _set_areas(annotations: list) -> int:
    """Take the area of the box where there is no mask, and the area is 0; returns their number.

    mmdet leaves such objects out. Exporters of boxes often write 0.
    """
    found = [
        a
        for a in annotations
        if isinstance(a, dict) and a.get("area") == 0 and not a.get("segmentation")
    ]
    count = 0
    for annotation in found:
        box = annotation.get("bbox")
        if incomplete(annotation) or not is_box(box) or min(box[2:]) <= 0:
            continue  # `CocoFile.problems` names it
        annotation["area"] = box[2] * box[3]
        count += 1
    return count
