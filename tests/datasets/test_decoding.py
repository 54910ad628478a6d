"""Every kind of file gives the pixels that it shows, or one line that says why not."""

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability.payloads.images import png_of
from milan_mm.datasets import decoding
from milan_mm.datasets.crops import LoadRandomResizedCrop
from milan_mm.datasets.decoding import MORE_PIXELS, decode
from milan_mm.datasets.inspecting import read_image
from milan_mm.datasets.labels import LoadLabels
from milan_mm.datasets.loading import LoadImage
from milan_mm.upkeep.shrink import ShrinkSettings, copy_file

GREY = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8) * 2  # no edge of one value
WHOLE_IMAGE = dict(scale=GREY.shape, crop_ratio_range=(1.0, 1.0), aspect_ratio_range=(1.5, 1.5))


def _pillow(pixels: np.ndarray, kind: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _opencv(pixels: np.ndarray, kind: str) -> bytes:
    return cv2.imencode(f".{kind}", pixels)[1].tobytes()


WIDE = GREY.astype(np.uint16) * 257  # 16 bits
SIXTEEN_BITS = {
    "png": _pillow(WIDE, "png"),
    "tiff": _pillow(WIDE, "tiff"),
    "big-endian.tiff": _pillow(WIDE.astype(">u2"), "tiff"),
    "pgm": _opencv(WIDE, "pgm"),
    "colour.png": _opencv(np.dstack([WIDE] * 3), "png"),
    "colour.tiff": _opencv(np.dstack([WIDE] * 3), "tiff"),
}
REFUSED = {
    "float.tiff": (_pillow(GREY / np.float32(255), "tiff"), "floating-point numbers"),
    "int32.tiff": (_pillow(GREY.astype(np.int32), "tiff"), "signed or 32-bit integers"),
}


def _load(path: Path) -> np.ndarray:
    return LoadImage().transform(dict(img_path=str(path)))["img"]


def _crop(path: Path) -> np.ndarray:
    return LoadRandomResizedCrop(**WHOLE_IMAGE).transform(dict(img_path=str(path)))["img"]


def _check(path: Path) -> np.ndarray:
    """The reader of tools/check_data.py; k-NN's is `LoadImage`."""
    if error := read_image(path).error:
        raise ValueError(f"{path} cannot be read: {error}")
    return decode(path.read_bytes())


READERS = dict(load=_load, crop=_crop, check=_check)
each_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


@each_reader
@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_16_bits_show_the_same_picture_as_8(tmp_path: Path, read: Callable, name: str):
    (tmp_path / name).write_bytes(SIXTEEN_BITS[name])
    pixels = read(tmp_path / name).astype(int)
    assert np.abs(pixels - GREY[..., None]).max() <= 1
    theirs = mmcv.imfrombytes(SIXTEEN_BITS[name])  # by mmcv's default reader
    assert np.abs(pixels - theirs).max() <= 1


def test_12_bits_stored_in_16_stay_as_dark_as_they_are_stored():
    assert decode(_pillow(WIDE // 16, "png")).max() == GREY.max() // 16


@each_reader
@pytest.mark.parametrize("name", REFUSED)
def test_numbers_without_a_range_are_refused_and_named(tmp_path: Path, read: Callable, name: str):
    content, kind = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}.* cannot be read: .*{kind}.* 16 bits per"):
        read(tmp_path / name)


@each_reader
@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "bmp", "webp", "ppm"])
def test_one_limit_of_pixels_holds_for_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable, kind: str
):
    path = tmp_path / f"large.{kind}"
    path.write_bytes(_pillow(np.dstack([GREY] * 3), kind))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 2399)
    with pytest.raises(ValueError, match=r"60x40 pixels, 2,400 in all, the limit is 2,399: .*=24"):
        read(path)
    monkeypatch.setenv(MORE_PIXELS, "2400")
    assert read(path).shape == (40, 60, 3)


def test_labels_and_copies_have_the_same_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.png").write_bytes(_pillow(GREY, "png"))
    (tmp_path / "a.jpg").write_bytes(_pillow(GREY, "jpeg"))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 2399)
    sample = dict(seg_map_path=str(tmp_path / "a.png"), reduce_zero_label=False)
    with pytest.raises(ValueError, match="the limit is 2,399"):
        LoadLabels(255).transform(sample)
    copied = copy_file("a.jpg", tmp_path / "copies", ShrinkSettings(tmp_path, 20, 90))
    assert copied.outcome == "failed" and "the limit is 2,399" in copied.error


def test_more_pixels_than_pillow_allows_are_read_when_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for kind in ("png", "jpeg"):
        assert decode(_pillow(np.dstack([GREY] * 3), kind)).shape == (40, 60, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("text", ["many", "0", "-1", str(2**31)])
def test_a_limit_that_is_none_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv(MORE_PIXELS, text)
    with pytest.raises(ValueError, match=rf"MILAN_MM_MAX_PIXELS='{text}': give a whole number"):
        LoadImage()


def _closed_early(pixels: np.ndarray) -> bytes:
    """A PNG file with sound checksums, whose pixels end after half of the rows."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels[: len(pixels) // 2])
    return png_of(pixels.shape[1], pixels.shape[0], 8, rows=zlib.compress(rows))


@each_reader
def test_a_png_whose_lower_part_is_missing_is_damaged(tmp_path: Path, read: Callable):
    (tmp_path / "half.png").write_bytes(_closed_early(GREY))
    with pytest.raises(ValueError, match=r"half\.png.* cannot be read: its pixels end early"):
        read(tmp_path / "half.png")


def test_labels_whose_lower_part_is_missing_are_damaged(tmp_path: Path):
    (tmp_path / "half.png").write_bytes(_closed_early(GREY))
    sample = dict(seg_map_path=str(tmp_path / "half.png"), reduce_zero_label=False)
    with pytest.raises(ValueError, match=r"half\.png' cannot be read: its pixels end early"):
        LoadLabels(255).transform(sample)


def test_a_png_whose_lower_part_is_black_is_read():
    pixels = GREY.copy()
    pixels[20:] = 0
    assert (decode(_pillow(pixels, "png"))[..., 0] == pixels).all()


def test_a_jpeg_that_was_cut_short_and_closed_is_named_by_the_check(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = _pillow(noise, "jpeg")
    path = tmp_path / "closed.jpg"
    path.write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    assert read_image(path).error == (
        "its decoder warns: Corrupt JPEG data: premature end of data segment"
    )
    assert _load(path).shape == (64, 64, 3)  # documented: training cannot see it
    path.write_bytes(content)
    assert read_image(path) == ((64, 64), "")
