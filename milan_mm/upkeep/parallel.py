"""The same work on many files, in several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import torch
from tqdm import tqdm

from milan_mm.errors import UserError
from milan_mm.lifetime import end_with_parent

CHUNK = 32  # files that a process takes at a time
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, title: str
) -> Iterator[Result]:
    """Apply a function to all items, with a progress bar; results come in the order of the items.

    Args:
        function: Of a module's top level, so that processes can find it.
        num_workers: Processes; 0 works in this one.

    Raises:
        UserError: When a process was ended from outside.
    """
    with tqdm(total=len(items), desc=title, unit=" files", smoothing=0.05) as progress:
        if not num_workers:
            for item in items:
                yield function(item)
                progress.update()
            return
        with ProcessPoolExecutor(num_workers, initializer=_begin) as pool:
            try:
                for result in pool.map(function, items, chunksize=CHUNK):
                    yield result
                    progress.update()
            except BrokenProcessPool:
                raise UserError(
                    f"one of {num_workers} processes was killed, perhaps out of memory: pass "
                    "fewer --workers"
                ) from None


def _begin() -> None:
    """One process per core is enough, and threads do not survive a fork."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    end_with_parent()
