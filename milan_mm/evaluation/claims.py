"""Evaluations that share a folder: each cell is run by one of them."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[str | None]:
    """Claim a piece of work for this process, unless another one has it.

    The system drops the claim when the process ends, however it ends. POSIX record locks work on
    network file systems too; where there are none, nothing is shared.

    Args:
        folder: Of the claims, made if missing. name: Of the work.

    Yields:
        None when the work is this process's, else which process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            yield os.pread(file, 1000, 0).decode(errors="replace").strip() or "another process"
            return
        except OSError:  # a file system without locks
            yield None
            return
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield None
    finally:
        os.close(file)
