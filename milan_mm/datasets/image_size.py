"""The size of an image as `LoadImage` will give it, without decoding the image."""

import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps

from milan_mm.errors import UserError
from milan_mm.files import IMAGE_FORMATS, open_regular

# for a photo whose stated size is that of its stored pixels
TURN_REMEDY = (
    "if the boxes belong to the stored pixels, remove the orientation from the photos (exiftool "
    "-r -Orientation= DIR), else exchange width and height in the file"
)
_TURNED = (5, 6, 7, 8)  # values of the EXIF orientation that exchange the sides


class Header(NamedTuple):
    """What the head of an image file says.

    Attributes:
        width, height: As shown, in pixels: what `LoadImage` gives.
        orientation: EXIF's, 1 to 8; 1 is upright.
    """

    width: int
    height: int
    orientation: int

    @property
    def turned(self) -> bool:
        """Whether the pixels are stored with the sides exchanged."""
        return self.orientation in _TURNED


def read_header(path: Path) -> Header | None:
    """The size of an image after the turn that its EXIF data ask for; None if unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on harmless metadata
            with open_regular(path) as file, Image.open(file, formats=IMAGE_FORMATS) as image:
                orientation = _orientation(image)
                width, height = image.size
                if orientation in _TURNED and image.format == "JPEG":
                    width, height = height, width
                elif orientation in _TURNED:  # rare; some formats' size is that of the turn already
                    width, height = ImageOps.exif_transpose(image).size
    except Exception:  # whatever a damaged file leads to; `LoadImage` skips and counts it
        return None
    return Header(width, height, orientation)


def check_stated_size(results: dict, height: int, width: int) -> None:
    """Compare the pixels of an image with `height` and `width` of an annotation file, if any.

    Raises:
        UserError: When they differ.
    """
    stated = results.get("height"), results.get("width")
    if None not in stated and stated != (height, width):
        raise UserError(
            f"it has {width}x{height} pixels, and is annotated as {stated[1]}x{stated[0]}"
        )


def _orientation(image: Image.Image) -> int:
    if image.format == "JPEG":  # OpenCV, which reads these, does not look into XMP as Pillow does
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
    else:
        exif = image.getexif()
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
