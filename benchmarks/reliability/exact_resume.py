"""Runs that were stopped and went on, against the one that was not: equal to the last bit?

For each task, way of stopping and number of processes, one training is stopped at five points and
resumed each time. Every loss of every process and every result of a validation, and at the end
weights, averages, optimizer and schedules, must be those of the undisturbed training.

Run: python -m benchmarks.reliability.exact_resume [--tasks det ...] [--ways SIGKILL ...]
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from benchmarks.reliability.small_recipes import TASKS, UPDATES, small_recipe, write_images
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import Start
from milan_mm.run.tracking import Tracking
from milan_mm.run.training import train

WAYS = ("exception", "SIGINT", "SIGTERM", "SIGKILL")
# iterations of 24: some are the first part of an update, the twelfth comes before a validation
POINTS = (5, 8, 12, 18, 21)
COMPARED = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
_LIMIT = 900  # seconds that a training may take, on a machine that is busy


@HOOKS.register_module(name="StoppedHook", force=True)
class StoppedHook(Hook):
    """Writes down each loss and result, and says or raises when it is time to stop.

    Attributes:
        at: Iterations after which the run is stopped; None lets it go on.
        reports: End of a pipe to whoever sends signals; None raises an exception.
    """

    priority = "LOWEST"
    # not arguments: a run that is resumed has the settings of the one before
    at: int | None = None
    reports: Any = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        loss = outputs["loss"].item()  # type: ignore[index]
        file = Path(runner.work_dir, f"losses-{runner.rank}.txt")
        with file.open("a") as lines:
            lines.write(f"{runner.iter} {loss.hex()}\n")
        if runner.iter + 1 == self.at:
            if self.reports is None:
                raise RuntimeError("stopped on purpose")
            self.reports.send(runner.rank)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        file = Path(runner.work_dir, f"results-{runner.rank}.txt")
        with file.open("a") as lines:
            lines.write(f"{runner.iter} {sorted((metrics or {}).items())}\n")


@dataclass(frozen=True)
class Training:
    """A small training that writes down its losses, see `StoppedHook`.

    Attributes:
        task, images, work_dir, updates: Of `small_recipe`.
        processes: Their number. parts: Of an update, which each process computes in turn.
        watched: Whether pictures are drawn and k-NN is measured beside it.
        mixes: Whether classification mixes images, which depends on the split.
    """

    task: str
    images: Path
    work_dir: Path
    updates: int = UPDATES
    processes: int = 1
    parts: int = 2
    watched: bool = False
    mixes: bool = True

    def run(self, resume: bool = False) -> None:
        """Train in this process, or go on."""
        cfg = small_recipe(self.task, self.images, self.work_dir, self.updates)
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="StoppedHook")]
        if not self.mixes:
            cfg.model.pop("train_cfg", None)
        knn = Tracking(pictures_interval=5, knn_data=str(self.images / "imagenet"), knn_interval=1)
        options = RunOptions(
            batch_per_gpu=cfg.total_batch // self.processes // self.parts,
            launcher="pytorch" if self.processes > 1 else "none",
            tracking=knn if self.watched else Tracking(),
        )
        notes = prepare(cfg, options, TRAINING)
        train(cfg, Start(resume="auto" if resume else None), notes)

    def run_apart(
        self, at: int | None = None, way: str = "exception", resume: bool = False
    ) -> bool:
        """Train in forked processes, and send them a signal when they say that it is time.

        Args:
            at: Iterations after which it is stopped. way: Of `WAYS`.

        Returns:
            Whether the training was stopped before its end.

        Raises:
            TimeoutError: It has not ended.
        """
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def run(rank: int) -> None:
            warnings.resetwarnings()  # in a test they are errors
            torch.set_num_threads(1)
            StoppedHook.at, StoppedHook.reports = at, None if way == "exception" else theirs
            if self.processes > 1:
                place = dict(RANK=rank, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
                sizes = dict(WORLD_SIZE=self.processes, LOCAL_WORLD_SIZE=self.processes)
                os.environ.update({name: str(value) for name, value in (place | sizes).items()})
            with self.work_dir.with_suffix(f".{rank}.log").open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            self.run(resume)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: of forks
            running = [context.Process(target=run, args=(r,)) for r in range(self.processes)]
            for process in running:
                process.start()
        try:
            if at is not None and way != "exception":
                _signal_when_told(running, ours, signal.Signals[way])
            for process in running:
                process.join(_LIMIT)
                if process.exitcode is None:
                    raise TimeoutError(f"{self.work_dir} has not ended in {_LIMIT} s")
            return any(process.exitcode for process in running)
        finally:
            for process in running:
                process.kill()


def _signal_when_told(running: Sequence[BaseProcess], reports: Any, number: int) -> None:
    """Wait for the word of every process, then send all of them the signal."""
    sentinels = [process.sentinel for process in running]
    for _ in running:
        if reports not in wait([reports, *sentinels], _LIMIT):
            return  # one has ended too early
        reports.recv()
    for process in running:
        os.kill(process.pid, number)  # type: ignore[arg-type]


def losses(work_dir: Path, rank: int = 0) -> list[tuple[int, str]]:
    """Iteration and loss of everything that a process has computed, in this order."""
    lines = (work_dir / f"losses-{rank}.txt").read_text().splitlines()
    return [(int(iteration), loss) for iteration, loss in map(str.split, lines)]


def same(a: Any, b: Any) -> bool:
    """Whether nested values are equal to the last bit."""
    if torch.is_tensor(a):
        return torch.is_tensor(b) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def _results(work_dir: Path, rank: int) -> set[str]:
    """Iteration and result of each validation; one that was made again must have the same."""
    file = work_dir / f"results-{rank}.txt"
    return {*file.read_text().splitlines()} if file.exists() else set()


def differences(stopped: Path, undisturbed: Path, processes: int = 1) -> list[str]:
    """What differs between two work directories, if anything."""
    found = []
    for rank in range(processes):
        expected, got = dict(losses(undisturbed, rank)), losses(stopped, rank)
        wrong = [i for i, loss in got if expected[i] != loss]
        if wrong:
            found.append(f"{len(wrong)} of {len(got)} losses, first in iteration {wrong[0]}")
        if missing := expected.keys() - dict(got).keys():
            found.append(f"iterations {sorted(missing)} are missing")
        if _results(stopped, rank) != _results(undisturbed, rank):
            found.append("results of validations")
    last = sorted(undisturbed.glob("iter_*.pth"), key=lambda p: int(p.stem[5:]))[-1].name
    ends = [torch.load(d / last, weights_only=False) for d in (undisturbed, stopped)]
    found += [f"{k} at the end" for k in COMPARED if not same(*(end.get(k) for end in ends))]
    best = [end["message_hub"]["runtime_info"].get("best_score") for end in ends]
    return [*found, *(["best score"] if best[0] != best[1] else [])]


def check(undisturbed: Training, way: str) -> int:
    """Stop a training at `POINTS`, and compare; how many of the stops left no trace."""
    if not undisturbed.work_dir.exists() and undisturbed.run_apart():
        raise RuntimeError(f"the undisturbed training failed, see {undisturbed.work_dir}.0.log")
    folder = undisturbed.work_dir.with_name(f"{undisturbed.work_dir.name}-{way}")
    stopped = replace(undisturbed, work_dir=folder)
    stops = sum(stopped.run_apart(at, way, resume=i > 0) for i, at in enumerate(POINTS))
    stopped.run_apart(resume=True)
    if wrong := differences(folder, undisturbed.work_dir, undisturbed.processes):
        print(f"{folder.name}: {'; '.join(wrong)}", flush=True)
        return 0
    shutil.rmtree(folder)
    return stops


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--watched", action="store_true", help="pretrain beside pictures and k-NN")
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images")
        for task in args.tasks:
            pairs = [*product(args.ways, args.processes)]
            exact = 0
            for way, processes in pairs:
                place = folder / f"{task}-{processes}"
                undisturbed = Training(
                    task, folder / "images", place, processes=processes, watched=args.watched
                )
                exact += check(undisturbed, way)
            total = len(pairs) * len(POINTS)
            print(f"{task}: {exact} of {total} stops left no trace", flush=True)
            good &= exact == total
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
