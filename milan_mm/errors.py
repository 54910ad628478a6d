"""Mistakes of the user. The message names the value, the limit and the remedy.

The tools print these as one line and exit with code 2; any other error is a defect and keeps its
traceback. Each class is also the built-in error that a caller from Python would expect.
"""

import os
import signal
import sys
from collections.abc import Callable

from milan_mm.escaping import visible
from milan_mm.lifetime import bind_children, end_with_launcher

# What schedulers send before they kill, what `kill`, Ctrl-C and a lost terminal do.
SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)
INTERRUPTED = 130  # exit code of a process that Ctrl-C ended
STOPPED = 75  # of one that another signal ended after it had saved: it can go on (EX_TEMPFAIL)


class UserError(ValueError):
    """A setting, a file or a combination of them that cannot work.

    Its message may hold names of files of others: what a terminal would obey is shown by numbers.
    """

    def __str__(self) -> str:
        return visible(super().__str__(), "\n")


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that should be there."""


class ExistingFileError(UserError, FileExistsError):
    """A file or folder that is in the way."""


class NonFiniteLossError(UserError, FloatingPointError):
    """A loss, a gradient or a weight that is NaN or infinite."""


class Stopped(KeyboardInterrupt):
    """A signal has ended the work, and what was done is kept.

    Args:
        code: The exit code of the process.
        message: A line for the user; empty where another process has it.
    """

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


def run_interruptible(main: Callable[[list[str]], int | None]) -> None:
    """Run a tool with the arguments of the command line, and exit with what it returns.

    Ctrl-C ends it with one line instead of a traceback, also in the seconds in which the libraries
    are imported. The processes that it starts end with it, and it ends with a tool that started it.
    """
    bind_children()
    end_with_launcher()
    try:
        code = main(sys.argv[1:])
    except Stopped as stop:
        if message := str(stop):
            print(message, file=sys.stderr, flush=True)
        code = stop.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        code = INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, e.g. `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        code = 128 + signal.SIGPIPE
    for number in SIGNALS:  # one that comes while the process ends must not spoil its exit code
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
