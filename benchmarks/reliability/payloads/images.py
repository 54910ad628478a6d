"""Image files that unfold, lie, or are none."""

import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.reliability.payloads.sound import SECRET, SIDE, Payload, encoded, endless, pipe, png


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_of(width: int, height: int, bits: int, extra: bytes = b"", rows: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@cache
def zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(min(count - i, 1 << 24))) for i in range(0, count, 1 << 24)]
    return b"".join([*parts, packer.flush()])


def _tiff(width: int, height: int, *more: tuple[int, int, int, int]) -> bytes:
    """A header with tags (number, type, count, value)."""
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)),
        *((262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 8)),
        *more,
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8)


def _jpeg(height: int, width: int) -> bytes:
    """A sound file whose header states another size."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    content = bytearray(encoded(pixels, "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def _exif_loop() -> bytes:
    """A JPEG whose EXIF directory points to itself."""
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8)
    exif = b"Exif\0\0" + tiff + struct.pack("<I", 8)
    sound_one = encoded(np.zeros((SIDE, SIDE, 3), np.uint8), "JPEG")
    return sound_one[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + sound_one[2:]


def _frames() -> bytes:
    frames = [Image.new("P", (SIDE, SIDE), number % 256) for number in range(500)]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _pixels(name: str, content: Callable[[], bytes], refused: bool = True) -> Payload:
    def spoil(path: Path) -> None:
        path.write_bytes(content())

    return Payload(f"image: {name}", "image", spoil, refused)


_GREY = np.zeros((SIDE, SIDE, 3), np.uint8)
EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n%%EndComments\nshowpage\n%%EOF\n"
IMAGES = (
    Payload("image: a named pipe", "image", pipe),
    Payload("image: a link to /dev/zero", "image", endless),
    _pixels("no bytes", lambda: b""),
    _pixels("PNG of 30,000 x 30,000", lambda: png_of(30_000, 30_000, 1, rows=zeros(112_530_000))),
    _pixels("PNG that states 2**31 - 1", lambda: png_of(2**31 - 1, 2**31 - 1, 8, rows=b"x")),
    _pixels(
        "PNG with a text of 200 MB",
        lambda: png_of(SIDE, SIDE, 8, _chunk(b"zTXt", b"a\0\0" + zeros(200_000_000))),
    ),
    _pixels(
        "PNG with a profile of 200 MB",
        lambda: png_of(SIDE, SIDE, 8, _chunk(b"iCCP", b"a\0\0" + zeros(200_000_000))),
    ),
    _pixels("PNG cut short", lambda: png(1)[:-400]),
    _pixels("JPEG cut short", lambda: encoded(_GREY + 99, "JPEG")[:-50]),
    _pixels("JPEG of 65,500 x 65,500", lambda: _jpeg(65_500, 65_500)),
    _pixels("JPEG with a loop in its EXIF data", _exif_loop, refused=False),
    _pixels("TIFF of 100,000 x 100,000", lambda: _tiff(100_000, 100_000)),
    _pixels("TIFF with a tag of 4 GB", lambda: _tiff(SIDE, SIDE, (270, 2, 2**32 - 1, 8))),
    _pixels("WebP of 16,383 x 16,383", lambda: _webp(16_383)),
    _pixels("WebP cut short", lambda: encoded(_GREY, "WEBP")[:-9]),
    _pixels(
        "GIF of 65,535 x 65,535", lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0" * 9
    ),
    _pixels("GIF of 500 frames", _frames, refused=False),
    _pixels(
        "BMP of 100,000 x 100,000",
        lambda: (
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 10**5, 10**5, 1, 24, *[0] * 6)
        ),
    ),
    _pixels("PPM of 100,000 x 100,000", lambda: b"P6 100000 100000 255\n" + bytes(99)),
    _pixels("EPS, for Ghostscript", EPS.encode),
    _pixels("a text", lambda: SECRET.encode()[::-1] * 99),
    _pixels("float numbers", lambda: encoded(np.zeros((SIDE, SIDE), np.float32), "TIFF")),
)


def _webp(side: int) -> bytes:
    head = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBP" + head + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body)) + body
