"""Do images and COCO file belong together: sizes as stated, and no image in two splits?"""

import filecmp
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from milan_mm.datasets.coco.faults import size_of
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.image_size import TURN_REMEDY, read_header
from milan_mm.errors import UserError

Item = TypeVar("Item")
SAMPLE = 256  # images whose heads are read before a start; `LoadImage` compares every one it reads


def check_sizes(file: CocoFile, folder: Path, images: Iterable[dict]) -> None:
    """Compare the sizes of image files, as training reads them, with those of the file.

    Args:
        images: Those of the file to look at; a file that cannot be read is passed over.

    Raises:
        UserError: Names the first that differs, and the remedy.
    """
    for image in images:
        if detail := wrong_size(folder / image["file_name"], image):
            raise UserError(f"'{folder / image['file_name']}' {detail} (in '{file.path}')")


def wrong_size(path: Path, image: dict) -> str:
    """How the size of an image file differs from the one stated, '' where it does not.

    The sentence ends with the remedy.
    """
    header = read_header(path)
    if header is None or (header.width, header.height) == (image["width"], image["height"]):
        return ""
    shown, stored = f"{header.width}x{header.height}", f"{header.height}x{header.width}"
    detail = f"has {shown} pixels, not {size_of(image)} as annotated: "
    if header.turned and stored == size_of(image):
        return (
            f"{detail}it is stored as {stored} and shown as {shown} by its EXIF orientation, as "
            f"training reads it: {TURN_REMEDY}"
        )
    return detail + "take the images that were annotated, or correct the file"


def is_shared(name: str, folder: Path, other: Path) -> bool:
    """Whether a file of this name is in both folders, with the same content."""
    try:
        return filecmp.cmp(folder / name, other / name, shallow=False)
    except OSError:
        return False


def shared_names(file: CocoFile, other: CocoFile) -> list[str]:
    """Names of images that both files list, in the order of `other`; content may still differ."""
    names = {image["file_name"] for image in file.images}
    return [image["file_name"] for image in other.images if image["file_name"] in names]


def sample(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of them, evenly spaced."""
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in chosen]
