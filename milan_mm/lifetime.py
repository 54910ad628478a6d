"""No process outlives the one that started it.

A process that is killed can end nothing any more: its data-loading workers would wait for a reader
that never comes, with all their memory, and the trainings that it started would go on unseen. So
the child looks for its parent, in a thread. Linux's `PR_SET_PDEATHSIG` would be quicker, but goes
by the *thread* that forked: it kills the workers of a loader whose iterator a passing thread made.

Nor does a worker live on that cannot hand on its work: its parent would wait for that forever.
"""

import ctypes
import multiprocessing
import multiprocessing.queues
import multiprocessing.util
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_TO_SAVE = 20.0  # after SIGTERM, for a training
STARTED_BY = "MILAN_MM_STARTED_BY"  # the process that started this tool
LAUNCHERS_FOLDER = "MILAN_MM_REASONS"  # what `tools/_torchrun.py` has made for its processes
_TORCHRUN = "TORCHELASTIC_RUN_ID"  # set by torchrun for its processes


class _Forks:
    """What `multiprocessing` holds its hooks by: they live as long as the object."""


_forks = _Forks()
_folders: dict[str, int] = {}  # of the sockets of workers -> the process that made it
_bound: set[tuple[int, str]] = set()  # what is done, by process: a fork inherits it


def bind_children() -> None:
    """Let all processes that `multiprocessing` forks from this one end with it.

    These are the workers of every `DataLoader` and `ProcessPoolExecutor`, those of libraries too.
    """
    if _is_first("children"):
        multiprocessing.util.register_after_fork(_forks, lambda _: begin_worker())


def bind_loaders() -> None:
    """Bind children, and put the sockets of all workers into one folder, which ends with them.

    Workers would make one each, and nobody would remove those that are ended by their process.
    """
    bind_children()
    with suppress(OSError):  # a full disk; whoever needs the folder says so
        folder = multiprocessing.util.get_temp_dir()
        if multiprocessing.parent_process() is None:  # else it is the folder of that process
            _folders.setdefault(folder, os.getpid())  # after `os.fork` it is still the parent's


def begin_worker() -> None:
    """What every process does that `multiprocessing` has started."""
    end_with_parent()
    # the thread that hands results on prints its errors and loses the result; see
    # docs/architecture.md for this private name
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_of_queue)  # type: ignore[attr-defined]


def end_with_parent() -> None:
    """Let this worker end when its parent does, whatever it waits for."""
    parent = multiprocessing.parent_process()
    # a fork server stands between its children and their parent, and ends with it
    is_direct = parent is not None and parent.pid == os.getppid()
    gone = parent is not None and not Path("/proc", str(parent.pid)).exists()
    if _is_first("worker"):
        _watch(-1 if gone and not is_direct else os.getppid(), partial(_end_of, parent))


def _end_of(parent: BaseProcess | None) -> None:
    for folder, owner in _folders.items():
        if parent is not None and parent.pid == owner:
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _end_of_queue(error: Exception, _: object) -> None:
    """End a worker whose result cannot be handed on, as the kernel does where /dev/shm is full."""
    if "shared memory" in str(error):
        # what torch's loader and its messages know; Python sets signals in main threads only
        ctypes.CDLL(None).signal(signal.SIGBUS, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGBUS)
        time.sleep(1)
    traceback.print_exception(error)
    os._exit(1)


def end_with_launcher() -> None:
    """Let this tool end with the launcher or the tool that started it; a shell may end before it.

    SIGTERM comes first, so that a training can save. What this tool starts in turn, as a hook of
    the user may, is not bound, unless it gets an `environment`.
    """
    starter = os.environ.get(STARTED_BY)
    os.environ[STARTED_BY] = ""
    if starter == "" or (starter is None and _TORCHRUN not in os.environ):
        return
    gone = starter is not None and not Path("/proc", starter).exists()
    if _is_first("tool"):
        _watch(-1 if gone else os.getppid(), _terminate)


def environment() -> dict[str, str]:
    """Of a tool that this process starts, see `end_with_launcher`."""
    return os.environ | {STARTED_BY: str(os.getpid())}


def _is_first(what: str) -> bool:
    if (os.getpid(), what) in _bound:
        return False
    _bound.add((os.getpid(), what))
    return True


def _watch(parent: int, end: Callable[[], None]) -> None:
    def look() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        end()

    threading.Thread(target=look, daemon=True, name="end-with-parent").start()


def _terminate() -> None:
    if folder := os.environ.get(LAUNCHERS_FOLDER):  # nobody else will remove it, nor read it
        shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os._exit(1)
