"""torchrun that ends as its processes did, with one line that says why.

Takes torchrun's arguments; for _launch.sh. The launchers of several machines meet first.
"""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from argparse import Namespace
from contextlib import suppress
from types import FrameType

# what torch's stores print of each lost connection, with the frames of the C++ code
_LEVEL = "TORCH_CPP_LOG_LEVEL"
_own_level = os.environ.get(_LEVEL)
os.environ.setdefault(_LEVEL, "ERROR")

from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.elastic.rendezvous import RendezvousTimeoutError  # noqa: E402
from torch.distributed.run import get_args_parser, main  # noqa: E402

from milan_mm import lifetime  # noqa: E402
from milan_mm.errors import INTERRUPTED, STOPPED, Stopped, UserError  # noqa: E402
from milan_mm.run import reasons  # noqa: E402
from milan_mm.run.failures import explain, explain_signal  # noqa: E402
from milan_mm.run.forwarding import forward_signals  # noqa: E402
from milan_mm.run.meeting import SECONDS_TO_MEET, Machine, Meeting, is_here  # noqa: E402

USER_ERROR = 2  # the exit code after a mistake of the user
SECONDS = "RDZV_TIMEOUT"
_AT_ONCE = signal.SIGRTMIN  # from a thread of this process to its main one


def run(argv: list[str] | None = None) -> None:
    """Start the processes and wait; exits with the code of the first one that failed."""
    lifetime.end_with_launcher()
    forward_signals()  # those that ask for an end, with time to save
    signal.signal(_AT_ONCE, _kill)
    args = get_args_parser().parse_args(argv)
    if _own_level is None:
        del os.environ[_LEVEL]  # for this process only
    if "LOGLEVEL" not in os.environ:
        logging.disable(logging.ERROR)  # torchrun's lines about what is said below
    with tempfile.TemporaryDirectory(prefix="milan_mm_") as folder:
        os.environ[lifetime.LAUNCHERS_FOLDER] = folder
        os.environ[lifetime.STARTED_BY] = str(os.getpid())
        os.environ.setdefault("PET_LOG_DIR", folder)  # torchrun's own is never removed
        code, failure, meeting = 0, None, None
        try:
            if machine := _machine(args):
                meeting = Meeting(machine)
                if machine.nodes:
                    meeting.watch(_end)
                # where the others reach this one; torchrun's default is its name, often 127.0.0.1
                os.environ.setdefault("PET_LOCAL_ADDR", machine.own_address())
                if meeting.is_at_home:
                    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            if args.max_restarts or (machine and not machine.nodes):
                # else the processes of a later round read in their agents' store what those of an
                # earlier one have left there, and wait for processes that are gone
                os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
                threading.Thread(target=_end_at_mistake, args=(folder,), daemon=True).start()
            main(argv)
        except ChildFailedError as error:
            code, failure = _ending(error, folder, _processes(args), meeting)
        except (SignalException, Stopped) as error:
            code = error.code if isinstance(error, Stopped) else 128 + error.sigval
            mistake = reasons.Reason.first(folder)
            if mistake and mistake.kind == reasons.MISTAKE:
                code, failure = USER_ERROR, mistake.text
            elif meeting and meeting.failure:
                code, failure = 1, meeting.failure
        except RendezvousTimeoutError:  # of machines that had met before
            code, failure = (
                1,
                (
                    f"fewer than {args.nnodes.partition(':')[0]} machines are left: start the same "
                    "command with --resume on all of them"
                ),
            )
        except (UserError, RuntimeError) as error:  # of torch's store, e.g. when a port is taken
            failure = str(error) if isinstance(error, UserError) else explain(error, ".")
            if failure is None:
                raise
            code = USER_ERROR
        if failure:
            print(f"error: {failure}", file=sys.stderr, flush=True)
        if meeting:
            has_failed = code not in (0, STOPPED, INTERRUPTED)
            meeting.leave(failure or (f"exit code {code}" if has_failed else None))
    sys.exit(code)


def _machine(args: Namespace) -> Machine | None:
    """Where this machine meets the others; None for a run on one, or another kind of meeting."""
    fewest, _, most = args.nnodes.partition(":")
    nodes = int(fewest) if fewest == (most or fewest) else None
    if args.standalone or nodes == 1 or args.rdzv_backend not in ("static", "c10d"):
        return None
    endpoint = args.rdzv_endpoint or f"{args.master_addr}:{args.master_port}"
    host, _, port = endpoint.rpartition(":")
    if not port.isdigit():
        host, port = endpoint, "29400"  # torchrun's own default
    rank = args.node_rank if args.rdzv_backend == "static" else None
    is_host = rank == 0 if rank is not None else None if is_here(host) else False
    seconds = float(os.environ.get(SECONDS, SECONDS_TO_MEET))
    return Machine(host, int(port), nodes, rank, is_host, seconds)


def _processes(args: Namespace) -> int | None:
    """How many there are, if that is known."""
    nodes, each = args.nnodes.replace("1:1", "1"), args.nproc_per_node
    return int(nodes) * int(each) if nodes.isdigit() and each.isdigit() else None


def _ending(
    error: ChildFailedError, folder: str, processes: int | None, meeting: Meeting | None
) -> tuple[int, str | None]:
    """Exit code, and why the processes of this machine ended; None where they have said it."""
    rank, first = error.get_first_failure()
    # a signal is a negative number there, and 128 + its number in a shell
    code = first.exitcode if first.exitcode > 0 else 128 - first.exitcode
    if first.exitcode in (STOPPED, INTERRUPTED):
        return code, None
    reason = reasons.Reason.first(folder, {f.pid for f in error.failures.values()})
    if reason and reason.kind != reasons.LOST:
        with suppress(KeyError):
            code = error.failures[reason.rank].exitcode
        code = USER_ERROR if reason.kind == reasons.MISTAKE else max(code, 1)
        return code, reason.sentence(_name(reason.rank, processes))
    name = _name(rank, processes) or "the process"
    if first.exitcode < 0:
        return code, f"{name} (pid {first.pid}) was {explain_signal(-first.exitcode)}"
    if reason and meeting and (theirs := meeting.hear()):
        return code, theirs
    if reason:
        return code, reason.sentence(name)
    return code, f"{name} ended with exit code {code}, see its message above"


def _end() -> None:
    """Let torchrun's agent end its processes and itself without time to save; from a thread."""
    os.kill(os.getpid(), _AT_ONCE)


def _kill(number: int, frame: FrameType | None) -> None:
    raise SignalException("", signal.SIGKILL)


def _end_at_mistake(folder: str) -> None:
    """A mistake would be made again after each restart."""
    while os.path.isdir(folder):
        with suppress(OSError):
            reason = reasons.Reason.first(folder)
            if reason and reason.kind == reasons.MISTAKE:
                return _end()
        time.sleep(1)


def _name(rank: int, processes: int | None) -> str:
    if processes == 1:
        return ""
    return f"process {rank} of {processes}" if processes else f"process {rank}"


if __name__ == "__main__":
    run()
