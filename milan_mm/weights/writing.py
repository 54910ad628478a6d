"""Writing weight files: the new file appears whole, or the old one stays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A neighbour to write to, which takes the place of `path` when the block ends well.

    Args:
        path: File to replace in one step; its folder is made where it is missing.

    Yields:
        The neighbour. It is removed when the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes its files private to their owner
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
