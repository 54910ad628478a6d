"""Training jobs of the demo: processes of `tools/train.py`, a few side by side."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from milan_mm.configs import shipped_folder

POLL_SECONDS = 0.5


@dataclass
class Job:
    """One call of `tools/train.py`.

    Attributes:
        task: 'pretrain', 'det' or 'seg'. init: 'scratch', 'mae' or 'milan'.
        config: Name of the config. work_dir: Where logs and checkpoints go.
        num_iters: Iterations it will take, for the progress bar.
        arguments: Further command-line arguments.
    """

    task: str
    init: str
    config: str
    work_dir: Path
    num_iters: int
    arguments: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What the progress bar calls it."""
        return f"{self.task} {self.init}"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint of a finished job."""
        return Path((self.work_dir / "last_checkpoint").read_text().strip())

    def logged(self) -> list[dict]:
        """All scalars logged so far, training and validation lines alike."""
        files = sorted(self.work_dir.glob("*/vis_data/scalars.json"))
        if not files:
            return []
        lines = files[-1].read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]


def run_jobs(jobs: Sequence[Job], num_parallel: int) -> Iterator[tuple[Job, float]]:
    """Run jobs side by side with one progress bar each.

    Args:
        jobs: Started in this order.
        num_parallel: How many run at a time; the machine's cores are shared among them.

    Yields:
        Each finished job, in the given order, with the seconds it took.

    Raises:
        RuntimeError: Naming the job that failed and its log; the other jobs finish first.
    """
    threads = max(1, (os.cpu_count() or 1) // num_parallel)
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("{task.completed:>5.0f}/{task.total:.0f} it"),
        TextColumn("{task.fields[note]:<24}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, ThreadPoolExecutor(num_parallel) as pool:
        futures = [pool.submit(_run, job, threads, progress) for job in jobs]
        for job, future in zip(jobs, futures, strict=True):
            yield job, future.result()


def _run(job: Job, threads: int, progress: Progress) -> float:
    bar = progress.add_task(job.title, total=job.num_iters, note="starting")
    job.work_dir.mkdir(parents=True, exist_ok=True)
    log = job.work_dir / "output.log"
    train = shipped_folder("tools") / "train.py"
    command = [sys.executable, str(train), job.config, "--work-dir", str(job.work_dir)]
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command + job.arguments,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(OMP_NUM_THREADS=str(threads)),
        )
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            steps = [row for row in job.logged() if "loss" in row]
            if steps:
                note = f"loss {steps[-1]['loss']:.3f}"
                progress.update(bar, completed=steps[-1]["step"], note=note)
    seconds = time.monotonic() - started
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise RuntimeError(f"{job.title} failed, see {log}; it ended with:\n{tail}")
    progress.update(bar, completed=job.num_iters, note="done")
    progress.console.print(f"{job.title} done in {seconds:.0f} s, log in {log}")  # also in a pipe
    return seconds
