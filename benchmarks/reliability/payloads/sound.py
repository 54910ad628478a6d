"""Small data sets that everything accepts, and what a payload is."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("small", "large")
SIDE, IMAGES = 96, 8
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
    (root.parent / "outside.png").write_bytes(png(7))
    if kind == "coco":
        for split in ("train2017", "val2017"):
            content = coco_content(split)
            for number, image in enumerate(content["images"]):
                write(root / split / image["file_name"], png(number + 9 * (split[0] == "v")))
            path = root / f"annotations/instances_{split}.json"
            write(path, json.dumps(content).encode())
    elif kind == "pairs":
        (root / "classes.txt").write_text("ground\nsky\n")
        labels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2
        for split in ("train", "val"):
            for number in range(IMAGES):
                write(root / f"images/{split}/{number}.png", png(number + 9 * (split[0] == "v")))
                write(root / f"annotations/{split}/{number}.png", encoded(labels.astype(np.uint8)))
    else:
        for split in ("train", "val"):
            for number in range(3 * IMAGES):
                name = f"{split}/{'abc'[number % 3]}/{number}.jpg"
                write(root / name, _jpeg(number + 29 * (split[0] == "v")))


def first_image(root: Path, split: str = "train") -> Path:
    """The image of a split into which payloads of the kind 'image' are put."""
    images = (path for path in root.rglob("*.[jp][pn]g") if "annotations" not in path.parts)
    return min(path for path in images if split in str(path.relative_to(root)))


def coco_content(split: str) -> dict:
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


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def encoded(pixels: np.ndarray, kind: str = "PNG", **settings: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


@cache
def png(seed: int) -> bytes:
    """An image of noise."""
    return encoded(_noise(seed))


@cache
def _jpeg(seed: int) -> bytes:
    return encoded(_noise(seed), "JPEG")


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def pipe(path: Path) -> None:
    """Put a named pipe, which blocks its reader, in the place of a file."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Put a link to a device without an end in the place of a file."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
