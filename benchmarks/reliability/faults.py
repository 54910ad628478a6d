"""A process fails in the middle of a run: one line, in time, nothing left, the right exit code.

    python -m benchmarks.reliability.faults [--processes 2] [--how kill ...] [--where train ...]

Prints a line for each trial and `n of n`.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.reliability.trials import Trial, training

SECONDS_TO_SPEAK, SECONDS_TO_LEAVE = 60, 30
_KILLED = "was ended by SIGKILL, often because memory ran out"
# what the last line says, and the exit code, on two processes
EXPECTED = dict(
    kill=(f"process 1 of 2 (pid {{}}) {_KILLED}", 137),
    crash=("process 1 of 2 (pid {}) was ended by SIGSEGV, a crash in a compiled library", 139),
    defect=("process 1 of 2 failed, its traceback is above: KeyError: 'a defect'", 1),
    mistake=("error: value 3 is over the limit 2: take a smaller one", 2),
    memory=("CUDA out of memory: pass --batch-per-gpu N", 1),
)
_WORKER = ("process 1 of 2: a data-loading worker was ended from outside", 1)


def fits(trial: Trial, code: int, how: str, where: str, processes: int) -> str:
    """What is wrong with the end of a trial; '' if nothing."""
    text, expected = EXPECTED[how]
    if where == "worker" and how == "kill":
        text, expected = _WORKER
    if where == "build" and how == "memory":
        expected = 2  # nothing had started
    last = trial.last_line
    if processes == 1:
        text = text.replace("process 1 of 2: ", "")
        if how == "defect":
            text = "KeyError: 'a defect'"
    if code != expected:
        return f"exit code {code}, not {expected}"
    if how in ("kill", "crash") and processes == 1 and where != "worker":
        return ""  # nobody is left to speak; the shell does
    if not all(part in last for part in text.split("{}")):
        return f"the last line is '{last}'"
    if trial.output.count("\nerror: ") > 1:
        return "several lines"
    return ""


def trial_of(folder: Path, how: str, where: str, processes: int) -> str:
    """Run one; returns what is wrong."""
    rank = processes - 1
    trial = training(folder, processes, "--work-dir", "run", FAULT=f"{how}@{where}@{rank}")
    code = trial.run()
    wrong = fits(trial, code, how, where, processes)
    if not wrong and (left := trial.orphans(SECONDS_TO_LEAVE)):
        wrong = f"{len(left)} processes are left after {SECONDS_TO_LEAVE} s"
    print(
        f"{how} in {where}, {processes} process(es): exit code {code} after {trial.seconds:.0f} s: "
        f"{wrong or trial.last_line}",
        flush=True,
    )
    return wrong


def main() -> None:
    """Run all that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--how", nargs="+", default=list(EXPECTED))
    parser.add_argument("--where", nargs="+", default=["build", "train", "val", "worker"])
    args = parser.parse_args()
    done, good = 0, 0
    for processes in args.processes:
        for how in args.how:
            for where in args.where:
                if where == "worker" and how not in ("kill", "defect"):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    done += 1
                    good += not trial_of(Path(folder), how, where, processes)
    print(f"{good} of {done} faults ended in one line, in time, with nothing left behind")


if __name__ == "__main__":
    main()
