"""Published data sets of dense tasks in small: their folders, names and ways to store a class."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

IGNORED = 255
CITY = "town/town_{:06d}_000019"


class Layout(NamedTuple):
    """Files of a split, relative to the data set, with the number of the pair to be filled in.

    Attributes:
        reduces: Files hold class c as c+1, and 0 for none.
    """

    root: str
    images: dict[str, str]
    labels: dict[str, str]
    reduces: bool


def _of_splits(pattern: str, train: str, val: str) -> dict[str, str]:
    return {name: pattern.replace("SPLIT", name) for name in (train, val)}


LAYOUTS = {
    "ade20k": Layout(
        "ade/ADEChallengeData2016",
        _of_splits("images/SPLIT/{:05d}.jpg", "training", "validation"),
        _of_splits("annotations/SPLIT/{:05d}.png", "training", "validation"),
        True,
    ),
    "cityscapes": Layout(
        "cityscapes",
        _of_splits(f"leftImg8bit/SPLIT/{CITY}_leftImg8bit.png", "train", "val"),
        _of_splits(f"gtFine/SPLIT/{CITY}_gtFine_labelTrainIds.png", "train", "val"),
        False,
    ),
    "pascal-context": Layout(
        "VOCdevkit/VOC2010",
        _of_splits("JPEGImages/SPLIT_{:05d}.jpg", "train", "val"),
        _of_splits("SegmentationClassContext/SPLIT_{:05d}.png", "train", "val"),
        True,
    ),
    "coco-stuff": Layout(
        "coco_stuff164k",
        _of_splits("images/SPLIT2017/{:012d}.jpg", "train", "val"),
        _of_splits("annotations/SPLIT2017/{:012d}_labelTrainIds.png", "train", "val"),
        False,
    ),
    "nyu-depth": Layout(
        "nyu",
        _of_splits("images/SPLIT/kitchen_{:04d}.jpg", "train", "test"),
        _of_splits("annotations/SPLIT/kitchen_{:04d}.png", "train", "test"),
        False,
    ),
}


def write_layout(
    data: str, folder: Path, pairs: Iterable[tuple[np.ndarray, np.ndarray]], splits: int = 2
) -> Path:
    """Write the same pairs as each split.

    Args:
        data: A key of `LAYOUTS`.
        folder: That stands for data/.
        pairs: Images (H, W, 3) uint8 RGB, and labels (H, W): classes from 0 on and 255 for none,
            or depths in millimetres.

    Returns:
        The folder of the data set.
    """
    layout, pairs = LAYOUTS[data], list(pairs)
    root = folder / layout.root
    for split in list(layout.images)[:splits]:
        for number, (image, labels) in enumerate(pairs):
            stored = labels
            if data == "nyu-depth":
                stored = labels.astype(np.uint16)
            elif layout.reduces:
                stored = np.where(labels == IGNORED, 0, labels + 1).astype(np.uint8)
            for pattern, pixels in ((layout.images, image), (layout.labels, stored)):
                path = root / pattern[split].format(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path, quality=95)
        if data == "pascal-context":
            names = root / f"ImageSets/SegmentationContext/{split}.txt"
            names.parent.mkdir(parents=True, exist_ok=True)
            names.write_text("".join(f"{split}_{n:05d}\n" for n in range(len(pairs))))
    return root


def random_pairs(
    data: str, count: int, size: tuple[int, int] = (64, 96), num_classes: int = 19
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noise with blocks of random classes, of which some pixels have none; or with depths.

    Args:
        size: (height, width).
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        blocks = generator.integers(0, num_classes, (size[0] // 8, size[1] // 8), dtype=np.uint8)
        labels = blocks.repeat(8, 0).repeat(8, 1)
        if data == "nyu-depth":
            labels = 800 + 300 * labels.astype(np.uint16)
        labels[:4] = 0 if data == "nyu-depth" else IGNORED
        found.append((image, labels))
    return found
