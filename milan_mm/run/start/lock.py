"""One training at a time in a work directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milan_mm.errors import UserError
from milan_mm.run.processes import is_main_process

FILE = ".lock"


def holder(work_dir: str | Path) -> str | None:
    """The process that trains in a work directory; None without one, or where nothing shows it.

    A process does not see its own lock.
    """
    try:
        with Path(work_dir, FILE).open() as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return file.read().strip() or "unknown"
    except OSError:
        pass  # no training yet, a folder of others, or a file system without locks
    return None


@contextmanager
def locked(work_dir: str | Path) -> Iterator[None]:
    """Keep other trainings out of a work directory, which is made if missing.

    The system holds the lock and drops it when the process ends, however it ends, so an old file
    blocks nobody. Of the processes of a run the main one locks. A POSIX record lock stays with the
    process that took it: loader workers that outlive a killed run do not inherit it, as they would
    inherit `flock`'s, and network file systems pass it on to other machines.

    Raises:
        UserError: When another training holds it, with its process and machine.
    """
    if not is_main_process():
        yield
        return
    path = Path(work_dir, FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"work directory '{work_dir}' is in use by another training ({holder}): wait until "
                "it has ended, or choose another --work-dir"
            ) from None
        except OSError:
            pass  # a file system without locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
