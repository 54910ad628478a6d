"""A batch job that is warned, requeued and goes on: the weights of an undisturbed training?

A stand-in for Slurm runs tools/slurm_train.sh as sbatch does: a copy of the script, with Slurm's
variables, as many real processes as tasks, real signals, and again when `scontrol requeue` asks for
it. The warning comes in mid-training, as often as `--warnings` says.

Run: python -m benchmarks.reliability.slurm [--tasks det ...]
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability.signals import TASKS, newest, torch_equal, write_recipe
from benchmarks.reliability.small_recipes import write_images

_REPOSITORY = Path(__file__).resolve().parents[2]
_LIMIT = 240  # seconds that a job may take
_UPDATE = re.compile(r"\(train\).* loss: ")
# Starts the tasks of a step, hands signals on to them, and ends the others when one has failed.
SRUN = """
import os, signal, subprocess, sys, time
words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
tasks = [
    subprocess.Popen(words, env=os.environ | dict(SLURM_PROCID=str(i), SLURM_LOCALID=str(i)))
    for i in range(int(os.environ["SLURM_NTASKS"]))
]
def hand_on(number, frame=None):
    for task in tasks:
        if task.poll() is None:
            task.send_signal(number)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, hand_on)
with open(os.environ["STAND_IN"] + "/step", "w") as file:
    file.write(str(os.getpid()))
while any(task.poll() is None for task in tasks):
    if any(task.poll() for task in tasks):
        hand_on(signal.SIGTERM)
    time.sleep(0.05)
sys.exit(max(task.returncode if task.returncode >= 0 else 128 - task.returncode for task in tasks))
"""
SCONTROL = """
import os, sys
match sys.argv[1:]:
    case ["show", "hostnames", nodes]:
        print(nodes)
    case ["requeue", job]:
        open(os.environ["STAND_IN"] + "/requeue", "w").write(job)
"""


@dataclass
class Slurm:
    """A cluster of one node.

    Attributes:
        folder: An empty one for its programs and its notes.
        number: Of tasks of a job.
    """

    folder: Path
    number: int = 2

    def __post_init__(self) -> None:
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            program = self.folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!{sys.executable}\n{text}")
            program.chmod(0o755)

    def start(self, arguments: Sequence[str], log: Path, restarts: int = 0) -> subprocess.Popen:
        """Start a job of tools/slurm_train.sh, as a copy; its output is appended to a log."""
        for note in ("step", "requeue"):
            (self.folder / note).unlink(missing_ok=True)
        script = self.folder / "slurm_script"
        shutil.copy(_REPOSITORY / "tools/slurm_train.sh", script)
        variables = dict(
            PATH=f"{self.folder / 'bin'}:{os.environ['PATH']}",
            PYTHON=sys.executable,
            PYTHONPATH=str(_REPOSITORY),
            OMP_NUM_THREADS="1",
            STAND_IN=str(self.folder),
            SLURM_JOB_ID=str(os.getpid()),
            SLURM_JOB_NODELIST="localhost",
            SLURM_NTASKS=str(self.number),
            SLURM_PROCID="0",
            SLURM_RESTART_COUNT=str(restarts),
        )
        with log.open("a") as output:
            return subprocess.Popen(
                ["bash", str(script), *arguments],
                stdout=output,
                stderr=output,
                env=os.environ | variables,
            )

    def is_requeued(self) -> bool:
        """Whether the job has asked for it."""
        return (self.folder / "requeue").exists()

    def warn(self, name: str = "SIGUSR1") -> None:
        """Send a signal to the tasks of the job that runs, not to its script."""
        os.kill(int((self.folder / "step").read_text()), signal.Signals[name])


def wait_for_update(job: subprocess.Popen, log: Path, offset: int) -> bool:
    """Wait until a log has a line of an update behind an offset; False if the job ended before."""
    ends = time.monotonic() + _LIMIT
    while not _UPDATE.search(log.read_text(errors="replace")[offset:]):
        if job.poll() is not None or time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def run_job(slurm: Slurm, arguments: Sequence[str], log: Path, warnings: int) -> list[int]:
    """Run a job until it is not requeued any more, and warn it so many times; its exit codes."""
    codes: list[int] = []
    while not codes or slurm.is_requeued():
        offset = len(log.read_text(errors="replace")) if log.exists() else 0
        job = slurm.start(arguments, log, restarts=len(codes))
        try:
            if len(codes) < warnings and wait_for_update(job, log, offset):
                slurm.warn()
            codes.append(job.wait(_LIMIT))
        finally:
            job.kill()
    return codes


def check(task: str, folder: Path, warnings: int) -> bool:
    """Whether a job that was warned ends with the weights of one that was not."""
    recipe = write_recipe(task, folder / "images", folder)
    slurm = Slurm(folder)
    for name, number in (("undisturbed", 0), ("warned", warnings)):
        options = ["--work-dir", str(folder / task / name), "--batch-per-gpu", "2"]
        log = folder / f"{task}-{name}.log"
        codes = run_job(slurm, [str(recipe), *options], log, number)
        if codes != [*[75] * number, 0]:
            print(f"{task}: exit codes {codes}\n{log.read_text()[-2000:]}", file=sys.stderr)
            return False
    return torch_equal(newest(folder / task / "undisturbed"), newest(folder / task / "warned"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--warnings", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images")
        good = sum(check(task, folder, args.warnings) for task in args.tasks)
    print(
        f"{good} of {len(args.tasks)} jobs were warned and requeued {args.warnings} times, and "
        "ended with the weights of an undisturbed one"
    )
    return 0 if good == len(args.tasks) else 1


if __name__ == "__main__":
    sys.exit(main())
