"""Trainings that are killed while they save; prints "n of n".

A training that saves after every update is ended by SIGKILL at a random moment, again and again in
one folder. After each kill, the file that `last_checkpoint` names must be whole, as must be every
other checkpoint, by torch's own reader and by the CRC-32 that `zipfile` compares, and the next
writer must have removed what the one before left. After another start, nothing may be left.

Examples:
  python -m benchmarks.reliability.kills_while_saving              # 100 kills, 2 minutes on a CPU
  python -m benchmarks.reliability.kills_while_saving --kills 500 --seed 1
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import Tensor, nn
from torch.utils.data import Dataset

from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import Start
from milan_mm.run.training import train

SECONDS = 60.0  # that a start may take


@MODELS.register_module(name="KilledModel", force=True)
class Model(BaseModel):
    """A million numbers, so that a checkpoint has 8 MB with the optimizer's part."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1_000_000))

    def forward(self, x: list[Tensor], mode: str) -> dict[str, Tensor]:
        """The loss has a gradient everywhere."""
        return dict(loss=(self.weight * torch.stack(x).mean()).mean())


@DATASETS.register_module(name="KilledNumbers", force=True)
class Numbers(Dataset):
    """Image i is the number i."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(x=torch.tensor(float(index)))


def config(work_dir: Path) -> Config:
    """A training that does little but save."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="InfiniteSampler", shuffle=True),
        dataset=dict(type="KilledNumbers"),
    )
    return Config(
        dict(
            default_scope="mmengine",
            total_batch=2,
            model=dict(type="KilledModel"),
            train_dataloader=loader,
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9)),
            param_scheduler=[],
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=10**6),
            default_hooks=dict(
                checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1, max_keep_ckpts=2)
            ),
            log_level="ERROR",
            work_dir=str(work_dir),
        )
    )


def forget_runs() -> None:
    """Clear mmengine's globals, which outlive a run."""
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        manager._instance_dict.clear()


class HaltError(Exception):
    """All kills are done."""


def resume(work_dir: Path) -> None:
    """Start, or go on with what there is, until killed."""
    forget_runs()
    cfg = config(work_dir)
    cfg.custom_hooks = [dict(type="KillingHook")]
    notes = prepare(cfg, RunOptions(), TRAINING)
    train(cfg, Start(resume="auto"), notes)


@HOOKS.register_module(name="KillingHook", force=True)
class KillingHook(Hook):
    """Before the first iteration, lets copies of the process train on, and kills each.

    A copy costs no start, so that nearly all of its time is saving.
    """

    # not arguments: a run that is resumed has the settings of the one before
    moments: ClassVar[list[float]] = []  # seconds after the first save of a copy
    found: ClassVar[list[tuple[list[str], int]]] = []  # faults, and hidden files

    def before_train(self, runner: Runner) -> None:
        """Train on in a copy, for each moment."""
        if not self.moments:
            return
        work_dir = Path(runner.work_dir)
        while self.moments:
            seconds = self.moments.pop()
            if not (pid := os.fork()):
                self.moments.clear()
                return
            kill_while_saving(pid, work_dir, seconds)
            self.found.append((faults(work_dir), len(leftovers(work_dir))))
        raise HaltError


def kill_while_saving(pid: int, work_dir: Path, seconds: float) -> None:
    """Kill a training a time after it has saved for the first time.

    Raises:
        AssertionError: When it saves nothing.
    """
    last = work_dir / "last_checkpoint"
    before = last.stat().st_mtime_ns if last.exists() else 0
    end = time.monotonic() + SECONDS
    while not last.exists() or last.stat().st_mtime_ns == before:
        assert time.monotonic() < end and not os.waitpid(pid, os.WNOHANG)[0], "it saves nothing"
        time.sleep(0.002)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def faults(work_dir: Path) -> list[str]:
    """What is wrong with the checkpoints of a killed training."""
    found = []
    paths = list(work_dir.glob("*.pth"))
    named = work_dir / (work_dir / "last_checkpoint").read_text()
    if named not in paths:
        found.append(f"last_checkpoint names {named}, which is not there")
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
            torch.load(path, weights_only=False)
        except Exception as error:
            found.append(f"{path.name}: {error!r}")
    return found


def leftovers(work_dir: Path) -> list[Path]:
    """Hidden files of writers."""
    return [path for path in work_dir.rglob(".*") if path.name != ".lock"]


def count_kills(work_dir: Path, kills: int, seed: int) -> tuple[int, int, int]:
    """Kill a training again and again, then start it as a user does.

    Returns:
        Kills after which all was well, kills that left a hidden file, and such files that are left
        after the start.
    """
    rng = random.Random(seed)
    KillingHook.moments[:] = [rng.uniform(0, 0.3) for _ in range(kills)]
    KillingHook.found.clear()
    owner = os.getpid()
    try:
        resume(work_dir)
    except HaltError:
        pass
    finally:
        if os.getpid() != owner:  # a copy that failed
            os._exit(1)
    for problems, _ in KillingHook.found:
        for problem in problems:
            print(problem, file=sys.stderr)
    well = sum(not problems and hidden <= 1 for problems, hidden in KillingHook.found)
    hits = sum(hidden > 0 for _, hidden in KillingHook.found)
    old = set(leftovers(work_dir))
    if not (pid := os.fork()):
        try:
            resume(work_dir)
        finally:
            os._exit(1)
    kill_while_saving(pid, work_dir, 0.0)
    return well, hits, len(old & set(leftovers(work_dir)))


def main() -> None:
    """Print the count; exits with code 1 unless it is full."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        well, hits, left = count_kills(Path(folder) / "run", args.kills, args.seed)
    print(
        f"{well} of {args.kills} kills left whole checkpoints only; {hits} left a hidden file, and "
        f"{left} of them are there after the next start"
    )
    sys.exit(well < args.kills or left > 0)


if __name__ == "__main__":
    main()
