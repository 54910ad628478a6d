"""Faults of label maps, of class folders, and of the folders of other programs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.reliability.payloads.images import EPS, png_of, zeros
from benchmarks.reliability.payloads.sound import (
    MARKER,
    SIDE,
    Payload,
    encoded,
    endless,
    pipe,
    png,
    write,
)


def _label(name: str, put: Callable[[Path], object]) -> Payload:
    def spoil(root: Path) -> None:
        for split in ("train", "val"):
            put(root / f"annotations/{split}/0.png")

    return Payload(f"label: {name}", "pairs", spoil)


def _map(name: str, content: Callable[[], bytes]) -> Payload:
    return _label(name, lambda path: path.write_bytes(content()))


PAIRS = (
    _label("a named pipe", pipe),
    _label("a link to /dev/zero", endless),
    _map("no bytes", lambda: b""),
    _map("PNG of 30,000 x 30,000", lambda: png_of(30_000, 30_000, 1, rows=zeros(112_530_000))),
    _map("value 2**31 - 1", lambda: encoded(np.full((SIDE, SIDE), 2**31 - 1, np.int32), "TIFF")),
    _map("value -1", lambda: encoded(np.full((SIDE, SIDE), -1, np.int32), "TIFF")),
    _map("colours", lambda: png(1)),
    _map("EPS, for Ghostscript", EPS.encode),
    Payload("classes.txt of bytes", "pairs", lambda r: write(r / "classes.txt", b"\xff\xfe\0")),
    Payload(
        "classes.txt with controls",
        "pairs",
        lambda r: write(r / "classes.txt", b"\x1b]0;title\x07\n=cmd|'/C x'!A1\n"),
        refused=False,
    ),
)


def _hidden_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "a").rename(root / split / "\x1b]0;title\x07$\\frac$<script>")


CLASSES = (
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
            write(place / f"images/{number}.png", png(number))
        for path, content in files.items():
            text = content if isinstance(content, bytes) else content.encode()
            write(place / path, text)
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
FOREIGN = (
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
