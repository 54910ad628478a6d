"""The header of a JPEG file tells the size that OpenCV will give."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from milan_mm.datasets.jpeg import cut_rows, read_header


def jpeg(size: tuple[int, int] = (60, 40), mode: str = "RGB", **settings) -> bytes:
    """A file of (width, height) pixels."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "jpeg", **settings)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_size_and_channels_are_those_of_pillow(mode: str, progressive: bool):
    content = jpeg(mode=mode, progressive=progressive)
    header = read_header(content)
    assert (header.height, header.width, header.num_channels) == (40, 60, len(mode))
    assert (header.orientation, header.progressive) == (1, progressive)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_shown_size_is_that_of_opencv(orientation: int):
    content = jpeg(exif=exif(orientation))
    header = read_header(content)
    assert header.orientation == orientation
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert header.shown_size == shown.shape[:2]


@pytest.mark.parametrize("orientation", [0, 9])
def test_orientations_that_do_not_exist_are_upright(orientation: int):
    assert read_header(jpeg(exif=exif(orientation))).orientation == 1


def test_damaged_metadata_are_upright_too():
    content = jpeg(exif=exif(6))
    start = content.index(b"Exif\0\0") + 6
    assert read_header(content[:start] + b"\xff" * 8 + content[start + 8 :]).orientation == 1


def test_a_thumbnail_in_the_metadata_is_not_the_image():
    content = jpeg(size=(60, 40))
    thumbnail = jpeg(size=(8, 8))
    segment = b"\xff\xe2" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert read_header(content[:2] + segment + content[2:]).shown_size == (40, 60)


def test_fill_bytes_between_segments_are_skipped():
    content = jpeg()
    assert read_header(content[:2] + b"\xff" * 5 + content[2:]).shown_size == (40, 60)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 20, 160])
def test_a_file_that_ends_in_its_header_has_none(length: int):
    assert read_header(jpeg()[:length]) is None


def test_another_format_has_none():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "png")
    assert read_header(buffer.getvalue()) is None


def test_lossless_jpeg_is_left_to_other_decoders():
    content = jpeg()
    start = content.index(b"\xff\xc0")
    assert read_header(content[:start] + b"\xff\xc3" + content[start + 2 :]) is None


def test_a_file_with_fewer_rows_in_its_header_has_fewer_rows():
    content = jpeg(size=(60, 100))
    header = read_header(content)
    assert read_header(cut_rows(content, header, 40)).height == 56  # 16 more
    assert len(cut_rows(content, header, 40)) == len(content)
    assert cut_rows(content, header, 90) == content  # all of them
