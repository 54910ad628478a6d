"""A launcher hands signals on to the processes that it has started, and lets them save.

torchrun's own agent kills its processes 30 seconds after a signal, and dies of SIGUSR1 itself.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType

from milan_mm.errors import STOPPED, Stopped
from milan_mm.signals import SIGNALS

POLL_SECONDS = 0.1
SECONDS_APART = 30.0  # all processes stop together; whoever is later waits for one that failed


def forward_signals() -> None:
    """From now on, in place of torchrun's agent; see `_hand_on`.

    SIGQUIT is left to the agent. torch older than 2.9 takes SIGTERM, SIGINT and SIGHUP, too.
    """
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGQUIT")  # an option of torchrun
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _hand_on)


def _hand_on(number: int, frame: FrameType | None) -> None:
    """Send a signal on to all processes, wait until they have ended, and end as they did.

    They may take their time, but once one has stopped or failed, the others have `SECONDS_APART`.
    Meanwhile the agent does not look for them, so it neither kills nor restarts any.

    Raises:
        Stopped: With the exit code of the first that failed; not if all had just finished.
    """
    processes = _children()
    for process in processes:
        os.kill(process, number)
    deadline = None
    while running := [process for process in processes if _ending(process) is None]:
        if deadline is None and any(map(_ending, processes)):
            deadline = time.monotonic() + SECONDS_APART
        if deadline is not None and time.monotonic() > deadline:
            for process in running:
                os.kill(process, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    codes = [_ending(process) or 0 for process in processes] or [-number]
    if any(codes):
        failed = [code for code in codes if code not in (0, STOPPED)]
        code = failed[0] if failed else STOPPED
        # a signal is a negative number for Python, and 128 + its number in a shell
        raise Stopped(code if code > 0 else 128 - code)


def _children() -> list[int]:
    """The processes that this one has started and not yet waited for."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = file.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has just ended
            continue
        if int(parent) == os.getpid():
            found.append(int(file.parent.name))
    return found


def _ending(process: int) -> int | None:
    """Its exit code, or the negative number of the signal that ended it; None while it runs.

    The agent can still ask for it afterwards.
    """
    result = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
