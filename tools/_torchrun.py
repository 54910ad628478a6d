"""torchrun that ends as its processes did: their messages stay the last words, without a traceback.

Takes torchrun's arguments; for _launch.sh. Signals that ask a training to end are handed on to its
processes, which have all the time that they need to save. torch's own agent kills them after 30
seconds, and dies of SIGUSR1 itself.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from milan_mm.engine.signals import SIGNALS
from milan_mm.errors import INTERRUPTED, STOPPED
from milan_mm.run.failures import explain

USER_ERROR = 2  # the exit code after a mistake of the user, who has read what is wrong
POLL_SECONDS = 0.1


def run(argv: list[str] | None = None) -> None:
    """Start the processes and wait; exits with the code of the first one that failed."""
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGHUP,SIGQUIT")  # torchrun leaves us the rest
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, hand_on)
    try:
        main(argv)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in (USER_ERROR, STOPPED, INTERRUPTED):
            print(error, file=sys.stderr)  # torch's summary: which process, how it ended
        sys.exit(in_a_shell(failure.exitcode))
    except RuntimeError as error:  # of torch's store, e.g. when the port is taken
        if (line := explain(error, ".")) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(USER_ERROR)


def hand_on(number: int, frame: FrameType | None) -> None:
    """Send a signal on to the processes, wait until all have ended, and end as they did.

    Meanwhile the agent does not look for them, so it neither kills nor restarts any.
    """
    processes = children()
    for process in processes:
        os.kill(process, number)
    while any(ending(process) is None for process in processes):
        time.sleep(POLL_SECONDS)
    codes = [ending(process) for process in processes] or [-number]
    if any(codes):  # else they had just finished
        failed = [code for code in codes if code not in (0, STOPPED)]
        sys.exit(in_a_shell((failed or [STOPPED])[0]))


def children() -> list[int]:
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


def ending(process: int) -> int | None:
    """Its exit code, or the negative number of the signal that ended it; None while it runs.

    The agent can still ask for it afterwards.
    """
    result = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def in_a_shell(code: int) -> int:
    """A signal is a negative number for Python, and 128 + its number in a shell."""
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    run()
