"""A work directory: one training at a time, and nobody removes what others made there."""

import fcntl
import os
import shutil
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.logging import MessageHub, MMLogger

from milan_mm.errors import UserError
from milan_mm.files import is_at
from milan_mm.run.processes import is_main_process

FILE = ".lock"
# Bytes of the file that are locked, each for a purpose of its own; they need not exist.
_TRAINING, _STARTING = 1_000_000, 1_000_001
_STAMP = "%Y%m%d_%H%M%S"  # mmengine's name for the folder of a start
_SECONDS_OF_A_START = 60.0
_held: dict[Path, int] = {}  # open files: a process loses its locks on a file that it closes


def holder(work_dir: str | Path) -> str | None:
    """The process that trains in a work directory; None without one, or where nothing shows it.

    A process does not see its own lock.
    """
    path = Path(work_dir, FILE)
    if path.resolve() in _held:
        return None
    with suppress(OSError), path.open() as file:  # no training yet, of others, or without locks
        # asked, and not tried: a training that starts meanwhile would find it taken
        question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _TRAINING, 1, 0)
        answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
        if struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK:
            return file.read().strip() or "unknown"
    return None


@contextmanager
def locked(work_dir: str | Path, own: Iterable[str] = ()) -> Iterator[None]:
    """Keep other trainings out of a work directory, which is made if missing.

    The system holds the lock and drops it when the process ends, however it ends, so an old file
    blocks nobody. Of the processes of a run the main one locks. A POSIX record lock stays with the
    process that took it: loader workers that outlive a killed run do not inherit it, as they would
    inherit `flock`'s, and network file systems pass it on to other machines.

    Args:
        work_dir: If it is made here and the block fails before training has started, it is removed
            again while it is still locked, unless it holds anything of others.
        own: Names of files that this run writes there before it starts.

    Raises:
        UserError: When another training holds it, with its process and machine.
    """
    if not is_main_process():
        yield
        return
    folder = Path(work_dir).resolve()
    file, made = _lock_folder(folder, work_dir)
    _held[folder / FILE] = file
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        with _removing(folder, made, own):
            yield
    finally:
        del _held[folder / FILE]
        os.close(file)


@contextmanager
def entered(work_dir: str | Path, own: Iterable[str] = ()) -> Iterator[None]:
    """Use a work directory beside a training; it is made, and removed again, as by `locked`."""
    if not is_main_process():
        yield
        return
    folder = Path(work_dir).resolve()
    with _removing(folder, _make(folder), own):
        yield


@contextmanager
def starting(work_dir: str | Path) -> Iterator[None]:
    """Let one run at a time choose the name of its folder for logs, which is the second it starts.

    Two that start in one second would have one folder, and write over each other's logs.
    """
    if not is_main_process():
        yield
        return
    path = Path(work_dir).resolve() / FILE
    held = _held.get(path)
    file = held or os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _wait_for(file, _STARTING)
        while Path(work_dir, time.strftime(_STAMP)).exists():
            time.sleep(0.05)
        yield
    finally:
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_UN, 1, _STARTING)
        if not held:
            os.close(file)


def has_started() -> bool:
    """Whether this process is training or testing, and not preparing to."""
    return MessageHub.get_current_instance().get_info("loop_stage") is not None


def _lock_folder(folder: Path, work_dir: str | Path) -> tuple[int, list[Path]]:
    """The open file that locks a folder, and what was made for it."""
    made: list[Path] = []
    while True:
        made = _make(folder) or made
        try:
            file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the run that made the folder has just removed it
            continue
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _TRAINING)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            other = os.pread(file, 1000, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise UserError(
                f"work directory '{work_dir}' is in use by another training ({other}): wait until "
                "it has ended, or choose another --work-dir"
            ) from None
        except OSError:
            return file, made  # a file system without locks
        if is_at(file, folder / FILE):
            return file, made
        os.close(file)


def _wait_for(file: int, byte: int) -> None:
    """Lock, or go on without after a minute: whoever holds it may hang."""
    end = time.monotonic() + _SECONDS_OF_A_START
    while time.monotonic() < end:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            time.sleep(0.1)
        except OSError:
            return  # a file system without locks
        else:
            return


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns those that this process made, inner first."""
    made: list[Path] = []
    for path in [p for p in (*reversed(folder.parents), folder) if not p.exists()]:
        with suppress(FileExistsError):  # another process was faster
            path.mkdir()
            made.insert(0, path)
    return made


@contextmanager
def _removing(folder: Path, made: list[Path], own: Iterable[str]) -> Iterator[None]:
    """Remove what this process made, if the block fails before training has started."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        is_ours = bool(made) and made[0] == folder and not holder(folder)
        if is_ours and not has_started():
            _remove(folder, {FILE, *own})
            with suppress(OSError):  # the folder stays where something of others is in it
                for path in made:
                    path.rmdir()
        raise


def _remove(folder: Path, own: set[str]) -> None:
    """Remove what a start has written, unless something of others is there."""
    log = MMLogger.get_current_instance().log_file
    if log and Path(log).resolve().parent.parent == folder:
        stamp = Path(log).parent.name
        own = own | {stamp, f"{stamp}.py"}  # a config without a file
    if {entry.name for entry in folder.iterdir()} <= own:
        for name in own:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name, ignore_errors=True)
            else:
                (folder / name).unlink(missing_ok=True)
