"""Read the header of a JPEG file, so that a crop can be drawn before anything is decoded."""

from dataclasses import dataclass
from typing import Literal

_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)  # baseline, extended, progressive
_SCAN = 0xDA  # the compressed pixels begin
_EXIF = 0xE1
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))
_ORIENTATION = 0x0112  # EXIF's tag
_MORE_ROWS = 16


@dataclass(frozen=True)
class JpegHeader:
    """Of one file.

    Attributes:
        height, width: Pixels as stored, before the camera's orientation is applied.
        num_channels: 1 grey, 3 colour, 4 CMYK.
        orientation: EXIF's, 1 to 8; 1 is upright, from 5 on height and width change places.
        frame: Offset of the segment with these sizes. progressive: Written coarse to fine, not row
            by row.
    """

    height: int
    width: int
    num_channels: int
    orientation: int
    frame: int
    progressive: bool

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width of the image as OpenCV and mmcv give it, orientation applied."""
        size = (self.height, self.width)
        return size[::-1] if self.orientation >= 5 else size

    @property
    def stops_early(self) -> bool:
        """Whether the first rows as shown can be had without the others."""
        return self.orientation == 1 and not self.progressive


def read_header(content: bytes) -> JpegHeader | None:
    """Read the marker segments before the first scan.

    Args:
        content: Of a file.

    Returns:
        None for another format, a damaged header, or a kind of JPEG that needs another decoder.

    Source: ITU-T T.81, annex B; EXIF 2.32.
    """
    if not content.startswith(b"\xff\xd8"):
        return None
    orientation, start = 1, 2
    height = width = num_channels = frame = 0
    progressive = False
    try:
        while (marker := content[start + 1]) != _SCAN:
            if content[start] != 0xFF:
                return None
            if marker == 0xFF or marker in _WITHOUT_LENGTH:
                start += 1 if marker == 0xFF else 2
                continue
            segment = start + 4
            if marker in _FRAMES and content[segment] == 8:  # bits
                height = int.from_bytes(content[segment + 1 : segment + 3], "big")
                width = int.from_bytes(content[segment + 3 : segment + 5], "big")
                num_channels = content[segment + 5]
                frame, progressive = start, marker == _PROGRESSIVE
            length = int.from_bytes(content[start + 2 : segment], "big")
            if marker == _EXIF and content.startswith(b"Exif\0\0", segment):
                orientation = _read_orientation(content[segment + 6 : start + 2 + length])
            start += 2 + max(length, 2)
    except IndexError:
        return None
    if not height or not width:
        return None
    return JpegHeader(height, width, num_channels, orientation, frame, progressive)


def _read_orientation(tiff: bytes) -> int:
    """EXIF's orientation as OpenCV finds it: in the first directory, as 16 bits; else 1."""
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(start: int, size: int = 2) -> int:
        return int.from_bytes(tiff[start : start + size], order)

    directory = number(4, 4)
    for entry in range(number(directory)):
        start = directory + 2 + 12 * entry
        if number(start) == _ORIENTATION:
            value = number(start + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def cut_rows(content: bytes, header: JpegHeader, num_rows: int) -> bytes:
    """The file with a smaller height in its header: decoders stop there.

    A few more rows are kept, since colour smoothing reads neighbouring rows.
    """
    height = min(num_rows + _MORE_ROWS, header.height).to_bytes(2, "big")
    start = header.frame + 5  # marker, length, bits
    return b"".join((content[:start], height, content[start + 2 :]))
