"""torchrun that ends as its processes did: their messages stay the last words, without a traceback.

Takes torchrun's arguments; for _launch.sh.
"""

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from milan_mm.errors import INTERRUPTED, STOPPED, Stopped
from milan_mm.run.failures import explain
from milan_mm.run.forwarding import forward_signals

USER_ERROR = 2  # the exit code after a mistake of the user, who has read what is wrong


def run(argv: list[str] | None = None) -> None:
    """Start the processes and wait; exits with the code of the first one that failed."""
    forward_signals()
    try:
        main(argv)
    except Stopped as stop:
        sys.exit(stop.code)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in (USER_ERROR, STOPPED, INTERRUPTED):
            print(error, file=sys.stderr)  # torch's summary: which process, how it ended
        # a signal is a negative number there, and 128 + its number in a shell
        code = failure.exitcode
        sys.exit(code if code > 0 else 128 - code)
    except RuntimeError as error:  # of torch's store, e.g. when the port is taken
        if (line := explain(error, ".")) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(USER_ERROR)


if __name__ == "__main__":
    run()
