"""A bar for what a protocol computes once the features are there."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def steps(title: str, total: int) -> Iterator[Callable[[], object]]:
    """Gives what is called after each of some steps; it shows nothing where nobody looks.

    Args:
        title: Of the bar. total: Number of steps.
    """
    quiet = total < 2 or not sys.stderr.isatty()
    with tqdm(total=total, desc=title, leave=False, disable=quiet) as bar:
        yield bar.update
