"""Listing and decoding every file of a data set, in several processes."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from milan_mm.data.loading import decode, reason_of

# those that mmpretrain's data sets read
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
CHUNK = 32  # files that a process takes at a time
Item = TypeVar("Item")
Result = TypeVar("Result")


class Reading(NamedTuple):
    """What decoding an image gave: its height and width in pixels, or the reason why not."""

    size: tuple[int, int] | None
    error: str = ""


def read_image(path: str | Path) -> Reading:
    """Decode an image completely, by the reader that training uses."""
    try:
        height, width = decode(Path(path).read_bytes()).shape[:2]
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        return Reading(None, reason_of(error))
    return Reading((height, width))


def rgb_pixels(path: str | Path) -> np.ndarray:
    """An image that `read_image` has found readable: (H, W, 3) uint8, RGB."""
    return decode(Path(path).read_bytes())[..., ::-1]


def each(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, title: str
) -> Iterator[Result]:
    """Apply a function to all items, with a progress bar; results come in the order of the items.

    Args:
        function: Of a module's top level, so that processes can find it.
        num_workers: Processes; 0 works in this one.

    Raises:
        ValueError: When a process was ended from outside.
    """
    with tqdm(total=len(items), desc=title, unit=" files", smoothing=0.05) as progress:
        if not num_workers:
            for item in items:
                yield function(item)
                progress.update()
            return
        with ProcessPoolExecutor(num_workers, initializer=_use_one_thread) as pool:
            try:
                for result in pool.map(function, items, chunksize=CHUNK):
                    yield result
                    progress.update()
            except BrokenProcessPool:
                raise ValueError(
                    f"one of {num_workers} processes that read files was ended, maybe for lack of "
                    "memory: pass fewer --workers"
                ) from None


def list_files(folder: Path) -> list[str]:
    """Names right inside a folder that are no folders, sorted; hidden ones are left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and not e.is_dir())


def is_image(name: str) -> bool:
    """Whether a name has the ending of an image."""
    return name.lower().endswith(EXTENSIONS)


def spread(train: Sequence[Item], val: Sequence[Item], count: int) -> list[Item]:
    """Choose samples for the eye, half from each split where they last, evenly over each."""
    num_val = min(len(val), max(count // 2, count - len(train)))
    chosen: list[Item] = []
    for items, number in ((train, min(len(train), count - num_val)), (val, num_val)):
        positions = np.linspace(0, len(items) - 1, number).round().astype(int)
        chosen += [items[i] for i in positions]
    return chosen


def _use_one_thread() -> None:
    """One process per core is enough, and OpenCV's threads do not survive a fork."""
    cv2.setNumThreads(0)
