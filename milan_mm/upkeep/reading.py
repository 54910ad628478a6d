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


def list_files(folder: Path, nested: bool = False) -> list[str]:
    """Names of the files directly in a folder, sorted; hidden ones are left out.

    Args:
        nested: Also of those in its subfolders, relative to the folder.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                found.append(entry.name)
            elif nested:
                found += [f"{entry.name}/{name}" for name in list_files(Path(entry), nested)]
    return sorted(found)


def spread(train: Sequence[Item], val: Sequence[Item], count: int) -> list[Item]:
    """Choose samples to look at: half from each split if there are enough, evenly spaced."""
    num_val = min(len(val), max(count // 2, count - len(train)))
    chosen: list[Item] = []
    for items, number in ((train, min(len(train), count - num_val)), (val, num_val)):
        positions = np.linspace(0, len(items) - 1, number).round().astype(int)
        chosen += [items[i] for i in positions]
    return chosen
