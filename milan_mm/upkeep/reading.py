"""Listing and decoding the files of a data set."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from milan_mm.datasets.decoding import decode
from milan_mm.files import read_regular

Item = TypeVar("Item")


def rgb_pixels(path: str | Path) -> np.ndarray:
    """An image that `read_image` has found readable: (H, W, 3) uint8, RGB."""
    return decode(read_regular(path))[..., ::-1]


def list_files(folder: Path) -> list[str]:
    """Names of the files directly in a folder, sorted; hidden ones are left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and not e.is_dir())


def spread(train: Sequence[Item], val: Sequence[Item], count: int) -> list[Item]:
    """Choose samples to look at: half from each split if there are enough, evenly spaced."""
    num_val = min(len(val), max(count // 2, count - len(train)))
    chosen: list[Item] = []
    for items, number in ((train, min(len(train), count - num_val)), (val, num_val)):
        positions = np.linspace(0, len(items) - 1, number).round().astype(int)
        chosen += [items[i] for i in positions]
    return chosen
