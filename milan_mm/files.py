"""Writing files that matter: the new file appears whole, or the old one stays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """A neighbour to write to, which takes the place of `path` when the block ends well.

    Several processes may replace one file: each has a neighbour of its own, and the last one wins.

    Args:
        path: File to replace in one step; its folder is made where it is missing.
        durable: Whether it must also outlast a power failure right after; without, it is there
            sooner, and a failure may leave it empty.

    Yields:
        The neighbour, since a rename is atomic within one file system only. It is removed when the
        block raises.

    Raises:
        OSError: When the disk is full or not writable.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as empty:
        partial = Path(empty.name)
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())  # temporary files are private to their owner
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
