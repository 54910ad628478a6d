"""Atomic writes: the new file appears whole, or the old one stays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Write to a temporary sibling that replaces `path` if the block succeeds.

    Several processes may replace one file: each has its own sibling, and the last one wins.

    Args:
        path: File to replace in one step; its folder is created if missing.
        durable: Whether the file must survive a power failure right afterwards. If not, writing is
            faster, but a power failure may leave an empty file.

    Yields:
        The sibling, since a rename is atomic only within a file system. It is removed if the block
        raises.

    Raises:
        OSError: The disk is full or not writable.
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
    except OSError as error:
        # the system names no file when a disk is full
        if error.errno is not None and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
