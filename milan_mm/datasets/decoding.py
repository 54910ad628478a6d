"""From the bytes of an image file to its pixels: completely, as stored, or an error that says why.

OpenCV is faster than Pillow, and reads 16-bit grey; but it fills the missing part of a truncated
file with grey without an error. So it decodes complete JPEG files, and 16-bit files that Pillow has
found to be whole. Everything else is Pillow's.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import cv2
import mmcv
import numpy as np
from mmengine.fileio import LocalBackend, get_file_backend
from PIL import Image

from milan_mm.datasets.jpeg import read_header
from milan_mm.errors import UserError
from milan_mm.files import IMAGE_FORMATS, read_regular

# Pillow's limit against files that are small on disk and fill the memory, here for every format.
MAX_PIXELS = 178_956_970
MORE_PIXELS = "MILAN_MM_MAX_PIXELS"  # environment variable: workers inherit it, each tool obeys it
_OPENCV_PIXELS = 1 << 30  # what OpenCV reads at most
_PNG = b"\x89PNG\r\n\x1a\n"
_INTEGERS, _FLOATS = "I", "F"  # Pillow's modes of 32 bits per pixel


def max_pixels() -> int:
    """Most pixels that an image may have: `MAX_PIXELS`, or what `MILAN_MM_MAX_PIXELS` says.

    Raises:
        UserError: When the variable is not a number that OpenCV allows.
    """
    text = os.environ.get(MORE_PIXELS)
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or not 1 <= int(text) <= _OPENCV_PIXELS:
        raise UserError(f"{MORE_PIXELS}='{text}': give a whole number from 1 to {_OPENCV_PIXELS}")
    return int(text)


def read_content(path: str, backend_args: dict | None = None) -> bytes:
    """The bytes of an image file, by mmengine's file backend; of local files only regular ones.

    Raises:
        UserError, OSError: See `open_regular`.
    """
    backend = get_file_backend(path, backend_args=backend_args, enable_singleton=True)
    return read_regular(path) if type(backend) is LocalBackend else backend.get(path)


def check_pixels(height: int, width: int) -> None:
    """Refuse an image that is too large, before its pixels take memory.

    Raises:
        UserError: With size, limit and remedy.
    """
    if height * width > (limit := max_pixels()):
        raise UserError(
            f"it has {width}x{height} pixels, {height * width:,} in all, the limit is {limit:,}: "
            f"shrink it, or set {MORE_PIXELS}={height * width}"
        )


def decode(content: bytes, color_type: str | int = "color") -> np.ndarray:
    """The pixels of an image file, completely or not at all.

    16 bits per channel are cut to the upper 8, as OpenCV does. What damage decoders do not notice:
    a JPEG that was cut short and then closed by its end mark, whose rest is grey.

    Args:
        content: Of the file.
        color_type: mmcv's flag, e.g. 'color' (BGR) or 'grayscale'; OpenCV's, for a complete JPEG.

    Returns:
        (H, W, 3) uint8, or (H, W) for 'grayscale'.

    Raises:
        Exception: Of any kind, as damaged files lead decoders to; see `reason_of`.
    """
    header = read_header(content) if is_complete_jpeg(content) else None
    if header:
        check_pixels(header.height, header.width)
        return _decode_by("cv2", content, color_type)
    with open_image(content) as image:
        if not _has_16_bits(image):
            _check_mode(image)
            backend = "cv2" if is_complete_jpeg(content) else "pillow"
        else:
            image.load()
            backend = "cv2"
    img = _decode_by(backend, content, color_type)
    check_end(content, img)
    return img


def _decode_by(backend: str, content: bytes, color_type: str | int) -> np.ndarray:
    with _own_limit():
        img = mmcv.imfrombytes(content, flag=color_type, backend=backend)
    if img is None:
        raise UserError("OpenCV cannot decode it")
    return img


@contextmanager
def open_image(content: bytes) -> Iterator[Image.Image]:
    """A file as Pillow opens it, of which nothing but the header is read yet.

    Raises:
        UserError: When it has too many pixels.
        Exception: Of any kind, as damaged files lead decoders to.
    """
    with _own_limit(), Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
        check_pixels(image.height, image.width)
        yield image


def check_end(content: bytes, img: np.ndarray) -> None:
    """Refuse a PNG file whose pixels end early, though it is closed like a whole one.

    Pillow leaves the missing part at zero. A second opinion is only asked for where an edge of the
    image has a single colour, as that part would.

    Args:
        content: Of the file.
        img: (H, W) or (H, W, 3), what was decoded.

    Raises:
        UserError: When OpenCV cannot read it.
    """
    if not content.startswith(_PNG):
        return
    edges = (img[-1], img[:, -1], img[0], img[:, 0])  # the lower one is another in a turned image
    if any((edge == edge[0]).all() for edge in edges):
        with _own_limit():
            whole = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if whole is None:
            raise UserError("its pixels end early")


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in one line; Pillow adds the memory address of its buffer."""
    return " ".join(str(error).split(" <_io")[0].split())[:200] or type(error).__name__


def is_complete_jpeg(content: bytes) -> bool:
    """Whether a JPEG ends with its end-of-image marker; some writers pad it with zeros."""
    return content.startswith(b"\xff\xd8") and content.rstrip(b"\0").endswith(b"\xff\xd9")


def _has_16_bits(image: Image.Image) -> bool:
    """Grey, without sign; Pillow gives some of them as wider integers."""
    wider = image.mode == _INTEGERS and image.format in ("PNG", "PPM")
    return wider or image.mode.startswith("I;16")


def _check_mode(image: Image.Image) -> None:
    """Refuse numbers whose range nobody states: Pillow would cut them at 0 and 255."""
    kinds = {_INTEGERS: "signed or 32-bit integers", _FLOATS: "floating-point numbers"}
    if kind := kinds.get(image.mode):
        raise UserError(
            f"its pixels are {kind}, the limit is 16 bits without sign: save it with 8 or 16 bits "
            "per channel"
        )


@contextmanager
def _own_limit() -> Iterator[None]:
    """Lift Pillow's limit while ours holds; also leave out its remarks on harmless metadata."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
