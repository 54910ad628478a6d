"""Do images and COCO file belong together: have the images the sizes that the file states?"""

from collections.abc import Iterable
from pathlib import Path

from milan_mm.datasets.coco.faults import size_of
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.image_size import TURN_REMEDY, read_header
from milan_mm.errors import UserError

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
