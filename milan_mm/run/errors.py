"""Mistakes of the user become one line and exit code 2; defects keep their traceback."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.escaping import one_line as printable_line
from milan_mm.run.failures import LOST_PEER, explain
from milan_mm.run.processes import is_first_of_launcher, leave_processes
from milan_mm.run.reasons import DEFECT, FAILURE, LOST, MISTAKE, leave
from milan_mm.run.start.lock import has_started

# How long another process waits for the first one to speak; the launcher ends all of them by then.
SECONDS_FOR_THE_FIRST = 10.0
SECONDS_FOR_THE_CAUSE = 5.0  # a process that lost another one lets the launcher see that one first
SECONDS_TO_END = 40  # for leaving the group and all that an interpreter does at its end
_PATH_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
# a misspelt field of a config reaches a constructor as a TypeError
_USER_ERRORS = (ValueError, FloatingPointError, TypeError, OSError)


@contextmanager
def user_errors(cfg: Config | None = None) -> Iterator[None]:
    """Turn mistakes of the user into one line and exit code 2; defects keep their traceback.

    A mistake is a `UserError`, which this package raises with value, limit and remedy. Before
    training starts it is also any other ValueError, a path that the system rejects, and a setting
    that a class does not know. A failure of the machine during training, such as a full disk, is
    one line too, with exit code 1.

    Of several processes `tools/_torchrun.py` says the first reason. With another launcher the first
    process speaks. The others wait until the launcher, which has seen it fail, ends them. A process
    that is still there after that made the mistake alone, and reports it.

    Args:
        cfg: Of the run, once its work directory is known.
    """
    try:
        yield
    except Exception as error:
        started = has_started()
        is_mistake = isinstance(error, UserError)
        failure = None if is_mistake else explain(error, cfg.work_dir if cfg else ".")
        message = failure or _mistake(error, started)
        if message is None:
            name = type(error).__name__
            leave(DEFECT, f"{name}: {_last_line(error).removeprefix(f'{name}: ')}")
            _end_for_certain()
            raise
        _end_for_certain()
        kind = LOST if failure == LOST_PEER else FAILURE if failure else MISTAKE
        heard = leave(kind, message)
        if kind == LOST:
            time.sleep(SECONDS_FOR_THE_CAUSE)
        if not heard:
            if not is_first_of_launcher():
                time.sleep(SECONDS_FOR_THE_FIRST)
            print(f"error: {message}", file=sys.stderr, flush=True)
        sys.exit(1 if failure and (started or kind == LOST) else 2)
    finally:
        leave_processes()


def _end_for_certain() -> None:
    """Let the kernel's clock end this process, if it waits for others that never answer."""
    if dist.is_initialized():
        signal.alarm(SECONDS_TO_END)


def _last_line(error: BaseException) -> str:
    """Of an error of a worker, whose text is a traceback, the message."""
    return " ".join((str(error).rstrip().splitlines() or [""])[-1].split())[:300]


def _mistake(error: Exception, started: bool) -> str | None:
    """The message of a mistake of the user; None for a defect."""
    if isinstance(error, UserError):
        return one_line(error)
    if started or not isinstance(error, _USER_ERRORS):
        return None
    if isinstance(error, OSError):  # of a library; those of the system are failures
        return one_line(error) if isinstance(error, _PATH_ERRORS) else None
    message = one_line(error)
    if isinstance(error, TypeError) and "unexpected keyword argument" not in message:
        return None
    return message


def one_line(error: BaseException) -> str:
    """The message of an error on one line.

    torch hands on an error of a data-loading worker as one of the same class, with the traceback
    for its text: the last line of that is the message.
    """
    text = str(error).rstrip()
    if isinstance(error, UserError) and "DataLoader worker" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return printable_line(text)
