"""Tools as processes of their own: trainings side by side with a progress bar, and tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from milan_mm import lifetime
from milan_mm.configs import shipped_folder
from milan_mm.errors import INTERRUPTED, STOPPED, Stopped

POLL_SECONDS = 0.5


@dataclass
class Job:
    """One call of `tools/train.py`, or of another tool that takes its arguments alone.

    Attributes:
        task: 'pretrain', 'finetune', 'det' or 'seg'.
        init: What the encoder starts from, e.g. 'scratch' or 'milan'; in the ablation, the row.
        config: Name or file of the config. work_dir: Where logs and checkpoints go.
        num_iters: Iterations it will take, for the progress bar.
        arguments: Further command-line arguments.
        follow_up: Runs when this one is done, with its last checkpoint as `--weights`.
        num_processes: More than 1 starts it by torchrun, one process per GPU.
        tool: The script of tools/.
        processor_seconds: That its process and the children of that took, once it has ended.
    """

    task: str
    init: str
    config: str
    work_dir: Path
    num_iters: int
    arguments: list[str] = field(default_factory=list)
    follow_up: "Job | None" = None
    num_processes: int = 1
    tool: str = "train.py"
    processor_seconds: float = field(default=0.0, init=False)

    @property
    def title(self) -> str:
        """What the progress bar calls it."""
        return f"{self.task} {self.init}"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint of a finished job."""
        from milan_mm.run.start.checkpoint_files import last_checkpoint  # imports mmengine

        return last_checkpoint(self.work_dir)

    def chain(self) -> "Iterator[Job]":
        """The job and all that follow it."""
        link: Job | None = self
        while link:
            yield link
            link = link.follow_up

    def losses(self) -> list[float]:
        """The losses logged so far."""
        return [line["loss"] for line in self.logged() if "loss" in line]

    def validation(self) -> dict:
        """The metrics of the last validation, by name.

        Raises:
            RuntimeError: When there was none.
        """
        for line in reversed(self.logged()):
            if "loss" not in line:
                return line
        raise RuntimeError(f"{self.title} logged no validation in {self.work_dir}")

    def logged(self) -> list[dict]:
        """All scalars logged so far, training and validation lines alike."""
        files = sorted(self.work_dir.glob("*/vis_data/scalars.json"))
        if not files:
            return []
        lines = files[-1].read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]


def run_jobs(jobs: Sequence[Job], num_parallel: int) -> Iterator[tuple[Job, float]]:
    """Run jobs side by side, with a progress bar for all and for each, and a line when one is done.

    An interrupt ends the running processes and starts no further ones.

    Args:
        jobs: Started in this order, each followed by its follow-up.
        num_parallel: How many run at a time; the machine's cores are shared among them.

    Yields:
        Each finished job, in the given order, with the seconds that it and its follow-up took.

    Raises:
        RuntimeError: Naming the job that failed and its log. Jobs that run by then finish first
            and are yielded, waiting ones do not start.
        Stopped: A signal has ended a job, which can go on; the others are ended, too.
    """
    failures: list[RuntimeError] = []
    with progress_bars() as progress, ThreadPoolExecutor(num_parallel) as pool:
        num_threads = max(1, (os.cpu_count() or 1) // num_parallel)
        workers = _Workers(progress, jobs, num_threads)
        futures = [pool.submit(workers.run_chain, job) for job in jobs]
        try:
            for job, future in zip(jobs, futures, strict=True):
                try:
                    seconds = future.result()
                except CancelledError:
                    continue
                except RuntimeError as error:
                    failures.append(error)
                    continue
                yield job, seconds
        except BaseException:  # interrupted, or the caller stopped iterating
            pool.shutdown(wait=False, cancel_futures=True)
            workers.terminate()
            raise
    if failures:
        raise failures[0]


def run_tool(title: str, name: str, arguments: Sequence[str], log: Path) -> None:
    """Run a script of tools/ in a process of its own; its output goes to a log.

    Args:
        title: What an error calls it.
        name: Of the script, e.g. 'test.py'.

    Raises:
        RuntimeError: When it failed, with its last lines.
        Stopped: A signal has ended it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(shipped_folder("tools") / name), *arguments]
    with log.open("w") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=lifetime.environment()
        )
    if done.returncode:
        raise _ending(title, done.returncode, log)


def progress_bars(console: Console | None = None) -> Progress:
    """Bars with a title, steps, a note and times; at 80 columns only a long title is cut.

    Args:
        console: Where they are drawn; None takes the screen.
    """
    title = Column(max_width=22, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", table_column=title),
        BarColumn(bar_width=None),  # what is left of the line
        TextColumn("{task.completed:.0f}/{task.total:.0f}", justify="right"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(table_column=Column(min_width=7)),
        TimeRemainingColumn(table_column=Column(min_width=7)),
        expand=True,
        console=console,
    )


class _Workers:
    """What the threads of `run_jobs` share: the screen, and the processes that they wait for."""

    def __init__(self, progress: Progress, jobs: Sequence[Job], num_threads: int) -> None:
        total = sum(link.num_iters for job in jobs for link in job.chain())
        self.progress = progress
        self.bar_of_all = progress.add_task("all", total=total, note=f"{len(jobs)} to do")
        self.environment = lifetime.environment() | dict(OMP_NUM_THREADS=str(num_threads))
        self.running: list[subprocess.Popen] = []
        self.failed = False  # a job failed: those that run go on, no new one starts
        self.stopped = False

    def run_chain(self, job: Job) -> float:
        """Run a job and its follow-ups; returns the seconds they took."""
        if self.failed:
            raise CancelledError
        seconds = 0.0
        weights: list[str] = []
        try:
            for link in job.chain():
                seconds += self._run(link, weights)
                weights = ["--weights", str(link.checkpoint)] if link.follow_up else []
        except RuntimeError:
            self.failed = True
            raise
        return seconds

    def terminate(self) -> None:
        """End the running processes, and let no follow-up start."""
        self.stopped = True
        for process in list(self.running):
            process.terminate()

    def _run(self, job: Job, weights: list[str]) -> float:
        if self.stopped:
            raise RuntimeError(f"{job.title} was not started: interrupted")
        progress = self.progress
        bar = progress.add_task(job.title, total=job.num_iters, note="starting")
        job.work_dir.mkdir(parents=True, exist_ok=True)
        log = job.work_dir / "output.log"
        started, steps_done = time.monotonic(), 0
        with log.open("w") as output:
            process = subprocess.Popen(
                _command(job) + weights,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
            self.running.append(process)
            if self.stopped:  # while it was started
                process.terminate()
            while not _has_ended(process):
                time.sleep(POLL_SECONDS)
                steps = [row for row in job.logged() if "loss" in row]
                if steps:
                    progress.update(
                        bar, completed=steps[-1]["step"], note=f"loss {steps[-1]['loss']:.3f}"
                    )
                    progress.advance(self.bar_of_all, steps[-1]["step"] - steps_done)
                    steps_done = steps[-1]["step"]
            job.processor_seconds = _processor_seconds(process.pid)
            process.wait()
            self.running.remove(process)
        seconds = time.monotonic() - started
        progress.remove_task(bar)  # dozens of finished bars would fill the screen
        if process.returncode:
            raise _ending(job.title, process.returncode, log)
        progress.advance(self.bar_of_all, job.num_iters - steps_done)
        progress.console.print(f"{job.title} done in {seconds:.0f} s, log in {log}")
        return seconds


def _has_ended(process: subprocess.Popen) -> bool:
    """Whether a child has ended; it stays a zombie, whose times can be read."""
    try:
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process.pid, how) is not None
    except ChildProcessError:  # `terminate` has waited for it
        return process.poll() is not None


def _processor_seconds(pid: int) -> float:
    """Of a child that has ended, and of its own children that it has waited for; 0 if unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # waited for, or a system without /proc
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # utime, stime, of children


def _command(job: Job) -> list[str]:
    """What starts a job, in one process or by torchrun."""
    if job.tool != "train.py":
        return [sys.executable, str(shipped_folder("tools") / job.tool), *job.arguments]
    start, end, tools = [sys.executable], [], shipped_folder("tools")
    if job.num_processes > 1:
        start += [str(tools / "_torchrun.py"), "--standalone"]
        start += ["--nproc-per-node", str(job.num_processes)]
        end = ["--launcher", "pytorch"]
    train = tools / "train.py"
    work_dir = ["--work-dir", str(job.work_dir)]
    return [*start, str(train), job.config, *work_dir, *job.arguments, *end]


def _ending(title: str, returncode: int, log: Path) -> RuntimeError | Stopped:
    """How a process ended: its exit code or the signal that ended it, and its last lines."""
    if returncode in (STOPPED, INTERRUPTED):
        return Stopped(returncode, f"{title} was stopped, see {log}")
    ending = f"exit code {returncode}"
    if returncode < 0:
        ending = f"signal {signal.Signals(-returncode).name}"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    return RuntimeError(
        f"{title} failed with {ending}, see {log}; it ended with:\n{tail or '(nothing)'}"
    )
