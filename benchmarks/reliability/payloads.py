"""Hostile and broken data, each put into a small sound data set."""

import json
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("small", "large")
SIDE, IMAGES = 96, 6
SECRET = "the-content-of-a-file-elsewhere"
MARKER = Path(tempfile.gettempdir(), f"hostile-data-{os.getpid()}")  # made by code that was run
OUTSIDE = "outside.txt"


@dataclass(frozen=True)
class Payload:
    """A fault.

    Attributes:
        name: For the list.
        kind: 'coco', 'pairs' or 'classes' for folders of these layouts, 'foreign' for those of
            other programs, 'image' for a file of any of them.
        spoil: Puts it into the folder, or into the image; may return the file to give to a tool.
        refused: Whether no tool that learns or measures may accept it.
    """

    name: str
    kind: str
    spoil: Callable[[Path], Path | None]
    refused: bool = True


def sound(kind: str, root: Path) -> None:
    """Write a data set that everything accepts; 'image' and 'foreign' have the layout of classes.

    Beside it lies a file that nothing may read.
    """
    root.mkdir(parents=True)
    (root.parent / OUTSIDE).write_text(SECRET)
    (root.parent / "outside.png").write_bytes(_png(7))
    if kind == "coco":
        for split in ("train2017", "val2017"):
            content = _coco(split)
            for number, image in enumerate(content["images"]):
                _write(root / split / image["file_name"], _png(number + 9 * (split[0] == "v")))
            path = root / f"annotations/instances_{split}.json"
            _write(path, json.dumps(content).encode())
    elif kind == "pairs":
        (root / "classes.txt").write_text("ground\nsky\n")
        labels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2
        for split in ("train", "val"):
            for number in range(IMAGES):
                _write(root / f"images/{split}/{number}.png", _png(number + 9 * (split[0] == "v")))
                _write(root / f"annotations/{split}/{number}.png", _file(labels.astype(np.uint8)))
    else:
        for split in ("train", "val"):
            for number in range(3 * IMAGES):
                name = f"{split}/{'abc'[number % 3]}/{number}.png"
                _write(root / name, _png(number + 29 * (split[0] == "v")))


def first_image(root: Path, split: str = "train") -> Path:
    """The image of a split into which payloads of the kind 'image' are put."""
    images = (path for path in root.rglob("*.png") if "annotations" not in path.parts)
    return min(path for path in images if split in str(path.relative_to(root)))


def _coco(split: str) -> dict:
    images = [dict(id=i, file_name=f"{i}.png", height=SIDE, width=SIDE) for i in range(IMAGES)]
    annotations = []
    for number in range(2 * IMAGES):
        x, y, w, h = 8 + 3 * number, 10, 30, 40
        annotations.append(
            dict(
                id=number + 1,
                image_id=number // 2,
                category_id=number % 2 + 1,
                bbox=[x, y, w, h],
                area=w * h,
                iscrowd=0,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
            )
        )
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)]
    return dict(info=split, images=images, annotations=annotations, categories=categories)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _file(pixels: np.ndarray, kind: str = "PNG", **settings: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


@cache
def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return _file(pixels)


# COCO files


def _annotations(root: Path) -> list[Path]:
    """Of both splits: a test reads one, a training the other."""
    return [root / f"annotations/instances_{split}2017.json" for split in ("train", "val")]


def _json(name: str, change: Callable[[dict], object], refused: bool = True) -> Payload:
    def spoil(root: Path) -> None:
        for path in _annotations(root):
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))

    return Payload(name, "coco", spoil, refused)


def _thing(name: str, refused: bool = True, **change: object) -> Payload:
    return _json(name, lambda content: content["annotations"][1].update(change), refused)


def _mask(name: str, mask: object) -> Payload:
    return _thing(f"mask: {name}", segmentation=mask)


def _image(name: str, **change: object) -> Payload:
    return _json(f"image: {name}", lambda content: content["images"][1].update(change))


def _text(name: str, text: bytes) -> Payload:
    def spoil(root: Path) -> None:
        for path in _annotations(root):
            path.write_bytes(text)

    return Payload(f"JSON: {name}", "coco", spoil)


def _many(content: dict) -> None:
    first = content["annotations"][0]
    content["annotations"] = [first | dict(id=number) for number in range(1, 1_000_001)]


_SQUARE = [1, 1, 30, 1, 30, 30, 1, 30]
_COCO = (
    *(
        _image(f"file_name {name[:20]!r}", file_name=name)
        for name in (
            "/etc/passwd",
            "../../outside.png",
            "a/../../../outside.png",
            "..\\..\\outside.png",
            "a\0b.png",
            "n" * 10_000 + ".png",
            "",
            "\x1b]0;title\x07\u202egnp.png",
        )
    ),
    _image("size 10**9", height=10**9, width=10**9),
    _image("size 10**400", height=10**400, width=10**400),
    _image("size NaN", height=float("nan")),
    _image("size of text", height="96"),
    _image("id of another", id=0),
    _image("id 10**30", id=10**30),
    _image("id NaN", id=float("nan")),
    _image("id of a list", id=[1]),
    *(
        _mask(name, mask)
        for name, mask in {
            "NaN": [[*_SQUARE, float("nan"), 5]],
            "inf": [[*_SQUARE, float("inf"), 5]],
            "1e9": [[*_SQUARE, 1e9, 5]],
            "1e300": [[*_SQUARE, 1e300, 5]],
            "10**400": [[*_SQUARE, 10**400, 5]],
            "4 numbers": [[1, 2, 3, 4]],
            "5 numbers": [[1, 2, 3, 4, 5]],
            "text": [["a"] * 6],
            "far and wide": [[0, 0, 90_000, 90_000] * 10_000],
            "negative runs": dict(size=[SIDE, SIDE], counts=[-5, SIDE * SIDE + 5]),
            "too many runs": dict(size=[SIDE, SIDE], counts=[SIDE * SIDE, 1]),
            "runs of text": dict(size=[SIDE, SIDE], counts=["a"]),
            "~~~~": dict(size=[SIDE, SIDE], counts="~~~~"),
            "size of 10**9": dict(size=[10**9, 10**9], counts=[10**18]),
            "size of floats": dict(size=[float(SIDE)] * 2, counts=[SIDE * SIDE]),
            "counts of None": dict(size=[SIDE, SIDE], counts=None),
            "a number": 7,
        }.items()
    ),
    _thing("bbox NaN", bbox=[1, float("nan"), 3, 4]),
    _thing("bbox inf", bbox=[1, 2, float("inf"), 4]),
    _thing("bbox of text", bbox=["1", "2", "3", "4"]),
    _thing("bbox of 10**400", bbox=[10**400, 1, 3, 4]),
    _thing("area NaN", area=float("nan")),
    _thing("iscrowd of text", iscrowd="yes"),
    _thing("iscrowd of a list", iscrowd=[[1]]),
    _thing("ignore NaN", ignore=float("nan")),
    _thing("iscrowd null", refused=False, iscrowd=None),
    _thing("image_id of a list", image_id=[1]),
    _thing("category_id 10**30", category_id=10**30),
    _json("annotation of a number", lambda content: content["annotations"].append(7)),
    _json("no categories", lambda content: content.pop("categories")),
    _json("no images", lambda content: content.update(images=[])),
    _json("a category twice", lambda c: c["categories"].append(dict(id=1, name="small"))),
    _json("a category of a list", lambda c: c["categories"].append(dict(id=[3], name="x"))),
    _json("a million annotations of an image", _many),
    _text("nested a million times", b"[" * 1_000_000),
    _text("nested inside", b'{"images": ' + b"[" * 100_000),
    _text("a list", b"[1, 2]"),
    _text("cut", json.dumps(_coco("train2017")).encode()[:-40]),
    _text("empty", b""),
    _text("bytes", bytes(range(256)) * 9),
    _text("number of 5,000 digits", b'{"images": ' + b"9" * 5_000 + b"}"),
    _text("pickle", b"cos\nsystem\n(S'touch " + str(MARKER).encode() + b"'\ntR."),
)


# Images


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _png_of(width: int, height: int, bits: int, extra: bytes = b"", rows: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@cache
def _zeros(count: int) -> bytes:
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
    content = bytearray(_file(pixels, "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def _exif_loop() -> bytes:
    """A JPEG whose EXIF directory points to itself."""
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8)
    exif = b"Exif\0\0" + tiff + struct.pack("<I", 8)
    sound_one = _file(np.zeros((SIDE, SIDE, 3), np.uint8), "JPEG")
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
_IMAGES = (
    _pixels("no bytes", lambda: b""),
    _pixels("PNG of 30,000 x 30,000", lambda: _png_of(30_000, 30_000, 1, rows=_zeros(112_530_000))),
    _pixels("PNG that states 2**31 - 1", lambda: _png_of(2**31 - 1, 2**31 - 1, 8, rows=b"x")),
    _pixels(
        "PNG with a text of 200 MB",
        lambda: _png_of(SIDE, SIDE, 8, _chunk(b"zTXt", b"a\0\0" + _zeros(200_000_000))),
    ),
    _pixels(
        "PNG with a profile of 200 MB",
        lambda: _png_of(SIDE, SIDE, 8, _chunk(b"iCCP", b"a\0\0" + _zeros(200_000_000))),
    ),
    _pixels("PNG cut short", lambda: _png(1)[:-400]),
    _pixels("JPEG cut short", lambda: _file(_GREY + 99, "JPEG")[:-50]),
    _pixels("JPEG of 65,500 x 65,500", lambda: _jpeg(65_500, 65_500)),
    _pixels("JPEG with a loop in its EXIF data", _exif_loop, refused=False),
    _pixels("TIFF of 100,000 x 100,000", lambda: _tiff(100_000, 100_000)),
    _pixels("TIFF with a tag of 4 GB", lambda: _tiff(SIDE, SIDE, (270, 2, 2**32 - 1, 8))),
    _pixels("WebP of 16,383 x 16,383", lambda: _webp(16_383)),
    _pixels("WebP cut short", lambda: _file(_GREY, "WEBP")[:-9]),
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
    _pixels("float numbers", lambda: _file(np.zeros((SIDE, SIDE), np.float32), "TIFF")),
)


def _webp(side: int) -> bytes:
    head = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBP" + head + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# Label maps, class folders and other programs


def _label(name: str, content: Callable[[], bytes]) -> Payload:
    def spoil(root: Path) -> None:
        for split in ("train", "val"):
            (root / f"annotations/{split}/0.png").write_bytes(content())

    return Payload(f"label: {name}", "pairs", spoil)


_PAIRS = (
    _label("no bytes", lambda: b""),
    _label("PNG of 30,000 x 30,000", lambda: _png_of(30_000, 30_000, 1, rows=_zeros(112_530_000))),
    _label("value 2**31 - 1", lambda: _file(np.full((SIDE, SIDE), 2**31 - 1, np.int32), "TIFF")),
    _label("value -1", lambda: _file(np.full((SIDE, SIDE), -1, np.int32), "TIFF")),
    _label("colours", lambda: _png(1)),
    _label("EPS, for Ghostscript", EPS.encode),
    Payload("classes.txt of bytes", "pairs", lambda r: _write(r / "classes.txt", b"\xff\xfe\0")),
    Payload(
        "classes.txt with controls",
        "pairs",
        lambda r: _write(r / "classes.txt", b"\x1b]0;title\x07\n=cmd|'/C x'!A1\n"),
        refused=False,
    ),
)


def _hidden_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "a").rename(root / split / "\x1b]0;title\x07$\\frac$<script>")


_CLASSES = (
    Payload("a class with controls", "classes", _hidden_class, refused=False),
    Payload(
        "a class in one split", "classes", lambda r: (r / "val/a").rename(r / "val/z") and None
    ),
)


def _foreign(name: str, **files: str | bytes) -> Payload:
    """A folder of another program, of three images and some files."""

    def spoil(root: Path) -> Path:
        place = root.parent / "foreign"
        for number in range(3):
            _write(place / f"images/{number}.png", _png(number))
        for path, content in files.items():
            text = content if isinstance(content, bytes) else content.encode()
            _write(place / path, text)
        return place

    return Payload(name, "foreign", spoil)


def _voc(filename: str = "0.png", head: str = "", box: str = "1") -> str:
    return (
        f"<?xml version='1.0'?>{head}<annotation><filename>{filename}</filename><object><name>a"
        f"</name><bndbox><xmin>{box}</xmin><ymin>1</ymin><xmax>50</xmax><ymax>50</ymax></bndbox>"
        "</object></annotation>"
    )


def _cvat(name: str, shape: str) -> str:
    return (
        "<annotations><meta><task><labels><label><name>a</name></label></labels></task></meta>"
        f"<image name='{name}' width='96' height='96'>{shape}</image></annotations>"
    )


_RUNS = "<mask label='a' rle='0, 1000000000000' left='0' top='0' width='1000000' height='1000000'/>"
_BOMB = "<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'>"
for _a, _b in zip("abcdefghi", "bcdefghij", strict=True):
    _BOMB += f"<!ENTITY {_b} '{f'&{_a};' * 10}'>"
_BOMB += "]>"
_FILE = "<!DOCTYPE a [<!ENTITY j SYSTEM '../outside.txt'>]>"
_YAML = "names: [a]\ntrain: {}\nval: images\n"
_FOREIGN = (
    _foreign("VOC: a name that climbs", **{"Annotations/x.xml": _voc("../../outside.png")}),
    _foreign("VOC: an entity bomb", **{"Annotations/0.xml": _voc("&j;", _BOMB)}),
    _foreign("VOC: an entity of a file", **{"Annotations/0.xml": _voc("&j;", _FILE)}),
    _foreign("VOC: a box of inf", **{"Annotations/0.xml": _voc(box="inf")}),
    _foreign("VOC: nested deeply", **{"Annotations/0.xml": "<annotation>" + "<a>" * 10**6}),
    _foreign(
        "VOC: a list that climbs",
        **{
            "Annotations/0.xml": _voc(),
            "ImageSets/Main/train.txt": "../../../outside\n/etc/passwd\n",
        },
    ),
    _foreign("YOLO: a folder elsewhere", **{"data.yaml": _YAML.format("/etc")}),
    _foreign("YOLO: a path that climbs", **{"data.yaml": "path: ../..\n" + _YAML.format("../..")}),
    _foreign(
        "YOLO: a list that climbs",
        **{"data.yaml": _YAML.format("list.txt"), "list.txt": "../../outside.png\n/etc/passwd\n"},
    ),
    _foreign(
        "YOLO: code",
        **{"data.yaml": f"names: !!python/object/apply:os.system ['touch {MARKER}']\n"},
    ),
    _foreign(
        "YOLO: aliases that grow",
        **{
            "data.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n"
                for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
            )
            + "names: *l\ntrain: *l\n"
        },
    ),
    _foreign(
        "YOLO: a label of 1e309",
        **{"data.yaml": _YAML.format("images"), "labels/0.txt": "0 1e309 .5 .5 .5\n"},
    ),
    _foreign(
        "CVAT: a name that climbs",
        **{
            "annotations.xml": _cvat(
                "../../outside.png", "<box label='a' xtl='1' ytl='1' xbr='50' ybr='50'/>"
            )
        },
    ),
    _foreign(
        "CVAT: runs of 10**12",
        **{"annotations.xml": _cvat("0.png", _RUNS)},
    ),
    _foreign(
        "Roboflow: a table of one field",
        **{"_classes.csv": "Pixel Value, Class\n0, " + "a" * 200_000},
    ),
    _foreign("Roboflow: a table of bytes", **{"_classes.csv": b"Pixel Value, Class\n\xff\xfe\0\n"}),
)

PAYLOADS: tuple[Payload, ...] = (*_COCO, *_IMAGES, *_PAIRS, *_CLASSES, *_FOREIGN)
