"""Reading COCO annotation files: once in a process, for the checks, the data set and the metric."""

import json
from collections.abc import Sequence
from pathlib import Path

from milan_mm.datasets.coco.faults import FIELDS, incomplete, is_box, wrong_field
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.collection import paused_collection
from milan_mm.errors import MissingFileError, UserError
from milan_mm.files import read_regular

# What was read and is not taken yet: an annotation file of COCO's size takes 10 s and 3 GiB.
_kept: dict[tuple, CocoFile] = {}


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
    _name_by_url(lists["images"])
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
        _make_whole(entries, ("id", "image_id", "category_id"))
    _make_whole(lists["images"], ("height", "width"))
    has_annotations = isinstance(content, dict) and content.get("annotations") is not None
    areas_set = _set_areas(lists["annotations"])
    return CocoFile(path, **lists, areas_set=areas_set, has_annotations=has_annotations)


def _parse(path: Path) -> object:
    """The content of a JSON file in UTF-8, with or without a mark of byte order, or UTF-16."""
    try:
        content = read_regular(path)
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        del content  # half a gigabyte in the case of COCO
        with paused_collection():
            return json.loads(text)
    except UserError as error:
        raise UserError(f"annotation file '{path}' cannot be read: {error}") from None
    except FileNotFoundError:
        raise MissingFileError(f"annotation file '{path}' does not exist") from None
    except RecursionError:
        raise UserError(f"annotation file '{path}' is nested too deeply to be COCO's") from None
    except ValueError as error:  # of JSON or of its encoding
        raise UserError(f"annotation file '{path}' is not a JSON file: {error}") from None


def _name_by_url(images: list) -> None:
    """Name the images of LVIS v1, which has only their URLs, '.../train2017/NAME.jpg'."""
    for image in images:
        if not isinstance(image, dict) or image.get("file_name") is not None:
            continue
        if isinstance(url := image.get("coco_url"), str):
            image["file_name"] = "/".join(url.split("/")[-2:])


def _make_whole(entries: list, names: Sequence[str]) -> None:
    """Write 7.0, as tables with gaps are exported, as 7."""
    for name in names:
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
