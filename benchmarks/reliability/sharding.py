"""Does `--fsdp` change a training? Two processes with it, against two of DistributedDataParallel.

For each task four trainings run: one of each kind, and one of each that goes on, half-way, from the
checkpoint of the other. Every logged number must be that of DistributedDataParallel, and so must
the last weights, up to rounding.

Run: python -m benchmarks.reliability.sharding [--tasks det ...]
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.runner import Runner
from torch.distributed.tensor import DTensor

from benchmarks.reliability.small_recipes import TASKS, small_recipe, write_images
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.processes import leave_processes
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import Start
from milan_mm.run.training import train

PROCESSES, PARTS, UPDATES = 2, 2, 6
_SAVED = 4  # updates, after which the other kind of training goes on
# kind of the training, and whose checkpoint it goes on from
RUNS = dict(
    ddp=("ddp", None), fsdp=("fsdp", None), ddp_fsdp=("fsdp", "ddp"), fsdp_ddp=("ddp", "fsdp")
)
_OF_THE_MACHINE = {"time", "data_time", "images_per_second", "waiting", "memory", "knn/seconds"}
_DIGITS = 4  # that a line of the log shows after the point


@dataclass
class Outcome:
    """What the trainings of one task came to.

    Attributes:
        equal, total: Logged numbers that have the same printed digits, and all of them.
        relative: The largest difference of logged numbers, as a share of the larger one.
        weights: Norm of the difference of the last checkpoints' tensors, as a share of theirs.
        bytes_held: By kind of training, of weights and optimizer in each process.
    """

    equal: int = 0
    total: int = 0
    relative: float = 0.0
    weights: float = 0.0
    bytes_held: dict[str, list[int]] = field(default_factory=dict)


def compare(
    config: Callable[[Path], Config], half_way: str, folder: Path, start_method: str = "forkserver"
) -> Outcome:
    """Run the four trainings of a recipe, and compare.

    Args:
        config: Makes the recipe for a work directory; to be pickled.
        half_way: Name of the checkpoint that the other kind goes on from.
        folder: For the work directories.
        start_method: Of the processes; 'fork' is quick where all is imported.
    """
    meeting = f"file://{folder / 'processes'}"
    multiprocessing.set_forkserver_preload(["milan_mm.run.training", "torch._dynamo"])  # once
    mp.start_processes(
        _trainings,
        args=(config, half_way, folder, meeting),
        nprocs=PROCESSES,
        start_method=start_method,
    )
    expected = _logged(folder / "ddp")
    found = Outcome()
    for name in [name for name in RUNS if name != "ddp"]:
        for step, values in _logged(folder / name).items():
            for key, value in values.items():
                _count(found, expected[step][key], value)
        _compare_weights(found, folder / "ddp", folder / name)
    for name in ("ddp", "fsdp"):
        held = [int((folder / f"{name}-{rank}").read_text()) for rank in range(PROCESSES)]
        found.bytes_held[name] = held
    return found


def _trainings(rank: int, config: Callable, half_way: str, folder: Path, meeting: str) -> None:
    """Those of one process, one after another."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(PROCESSES),
        LOCAL_WORLD_SIZE=str(PROCESSES),
    )
    warnings.resetwarnings()  # in a test they are errors
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    for name, (kind, source) in RUNS.items():
        cfg = config(folder / name)
        cfg.experiment_name = f"{folder.name}-{name}"
        if "visualizer" in cfg:  # mmengine would take the last training's of that name
            cfg.visualizer.name = cfg.experiment_name
        options = RunOptions(launcher="pytorch", fsdp=kind == "fsdp")
        start = Start(resume=str(folder / source / half_way) if source else None)
        runner = train(cfg, start, prepare(cfg, options, TRAINING))
        (folder / f"{name}-{rank}").write_text(str(_bytes_held(runner)))
        dist.barrier()  # the checkpoint is there that the other kind goes on from
    del runner
    leave_processes()


def _bytes_held(runner: Runner) -> int:
    """Of weights and optimizer states in this process."""
    optimizer = runner.optim_wrapper.optimizer
    states = [value for of_one in optimizer.state.values() for value in of_one.values()]
    tensors: list[Any] = [*runner.model.parameters(), *filter(torch.is_tensor, states)]
    local = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
    return sum(t.numel() * t.element_size() for t in local)


def _logged(work_dir: Path) -> dict[tuple[int, bool], dict[str, float]]:
    """Numbers by iteration, those of validations apart."""
    (path,) = work_dir.glob("*/vis_data/scalars.json")
    found = {}
    for line in map(json.loads, path.read_text().splitlines()):
        numbers = {k: v for k, v in line.items() if k not in _OF_THE_MACHINE}
        found[line["step"], "loss" in line] = numbers
    return found


def _count(found: Outcome, expected: float, value: float) -> None:
    found.total += 1
    found.equal += f"{expected:.{_DIGITS}f}" == f"{value:.{_DIGITS}f}"
    if (largest := max(abs(expected), abs(value))) > 0:
        found.relative = max(found.relative, abs(expected - value) / largest)


def _compare_weights(found: Outcome, expected: Path, folder: Path) -> None:
    mine, theirs = (
        torch.load(
            path / (path / "last_checkpoint").read_text().rpartition("/")[2], weights_only=False
        )["state_dict"]
        for path in (folder, expected)
    )
    assert mine.keys() == theirs.keys()
    # of all: Adam turns the rounding of gradients that are 0, as those of keys' biases, into noise
    difference = math.hypot(*((mine[n].double() - t.double()).norm() for n, t in theirs.items()))
    size = math.hypot(*(tensor.double().norm() for tensor in theirs.values()))
    found.weights = max(found.weights, difference / size)


def _config(task: str, images: Path, work_dir: Path) -> Config:
    cfg = small_recipe(task, images, work_dir, UPDATES, workers=0)
    # an average of the weights is a second whole model, which --fsdp refuses
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook["type"] != "EMAHook"]
    cfg.train_dataloader.batch_size //= PROCESSES
    if task == "cls":
        cfg.optim_wrapper.clip_grad = dict(max_norm=1.0)
    return cfg


def main(argv: Sequence[str] | None = None) -> None:
    """Compare all tasks; exit code 1 if a printed digit differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    args = parser.parse_args(argv)
    equal = total = 0
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        write_images(images)
        for task in args.tasks:
            place = Path(folder, task)
            place.mkdir()
            half_way = f"iter_{_SAVED * PARTS}.pth"
            found = compare(partial(_config, task, images), half_way, place)
            held = " and ".join(
                f"{kind} {max(held):,}" for kind, held in sorted(found.bytes_held.items())
            )
            print(
                f"{task}: {found.equal} of {found.total} logged numbers have the same printed "
                f"digits, at most {found.relative:.1g} apart; weights {found.weights:.1g}; bytes "
                f"of weights and optimizer in a process: {held}",
                flush=True,
            )
            equal, total = equal + found.equal, total + found.total
    print(f"{equal} of {total} logged numbers equal")
    sys.exit(equal != total)


if __name__ == "__main__":
    main()
