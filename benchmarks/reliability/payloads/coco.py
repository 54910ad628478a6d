"""Faults of COCO's annotation files."""

import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.reliability.payloads.sound import MARKER, SIDE, Payload, coco_content, endless, pipe


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


def _instead(name: str, put: Callable[[Path], None]) -> Payload:
    def spoil(root: Path) -> None:
        for path in _annotations(root):
            put(path)

    return Payload(f"JSON: {name}", "coco", spoil)


def _text(name: str, text: bytes) -> Payload:
    return _instead(name, lambda path: path.write_bytes(text) and None)


def _many(content: dict) -> None:
    first = content["annotations"][0]
    content["annotations"] = [first | dict(id=number) for number in range(1, 100_001)]


_SQUARE = [1, 1, 30, 1, 30, 30, 1, 30]
COCO = (
    _instead("a named pipe", pipe),
    _instead("a link to /dev/zero", endless),
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
    _json("100,000 annotations of an image", _many),
    _text("nested a million times", b"[" * 1_000_000),
    _text("nested inside", b'{"images": ' + b"[" * 100_000),
    _text("a list", b"[1, 2]"),
    _text("cut", json.dumps(coco_content("train2017")).encode()[:-40]),
    _text("empty", b""),
    _text("bytes", bytes(range(256)) * 9),
    _text("number of 5,000 digits", b'{"images": ' + b"9" * 5_000 + b"}"),
    _text("pickle", b"cos\nsystem\n(S'touch " + str(MARKER).encode() + b"'\ntR."),
)
