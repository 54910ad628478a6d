"""`benchmark.py scale`: our step's time on a CPU by batch, image, model and number of processes.

The expected time is that of the first row times the ratio of the FLOPs. Processes share the cores
and the batch of the first row, so their expected time is the same, and what they take longer is
communication. `kept` is what a process holds between forward and backward pass: activations, and
the copies of the weights in bfloat16.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from benchmarks.flops import resize, step_flops
from milan_mm.benchmark.contest import default_threads
from milan_mm.benchmark.pretrain_steps import OURS, build_step, fixed_images
from milan_mm.configs import load
from milan_mm.engine.memory import keep_freed_memory
from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS


@dataclass(frozen=True)
class Run:
    """A training step to measure: batch of all processes, image side, encoder, processes."""

    batch_size: int = 8
    img_size: int = 224
    arch: str = "base"
    processes: int = 1

    def config(self) -> Config:
        """Our recipe at these sizes, with a random teacher."""
        config = load(OURS)
        config.model.backbone.arch = self.arch
        config.model.decoder.embed_dims = ARCHS[self.arch]["embed_dims"]
        config.model.head.teacher.pretrained = "random"
        resize(config, self.img_size)
        return config

    def flops(self) -> int:
        """Of the whole batch, forward and backward."""
        return self.batch_size * _flops_per_image(self.img_size, self.arch)


@functools.cache
def _flops_per_image(img_size: int, arch: str) -> int:
    parts = step_flops(Run(img_size=img_size, arch=arch).config(), "PromptingDecoder")
    return sum(both for _, both in parts.values())


FIRST = Run()
RUNS = (
    FIRST,
    Run(batch_size=2),
    Run(batch_size=4),
    Run(batch_size=16),
    Run(img_size=160),
    Run(img_size=288),
    Run(arch="small"),
    Run(arch="large"),
    Run(processes=2),
)


def run(args: argparse.Namespace) -> None:
    """Print the table.

    Args:
        args: `rounds` and `precision`; see tools/benchmark.py.

    Raises:
        UserError: When `rounds` is below 1.
    """
    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: must be 1 or more")
    print(f"our step in {args.precision} on {default_threads()} threads, median of {args.rounds}")
    print(
        f"{'batch':>5} {'pixels':>6} {'ViT':<6} {'processes':>9} {'GFLOP':>7} {'time':>8} "
        f"{'expected':>9} {'ratio':>6} {'GFLOP/s':>8} {'kept':>9}"
    )
    keep_freed_memory()  # as in tools/train.py
    first = 0.0
    for r in RUNS:
        (seconds, kept), flops = measure(r, args.precision, args.rounds), r.flops()
        first = first or seconds / flops
        expected = first * flops
        print(
            f"{r.batch_size:>5} {r.img_size:>6} {r.arch:<6} {r.processes:>9} {flops / 1e9:>7.0f} "
            f"{seconds:>6.2f} s {expected:>7.2f} s {seconds / expected:>6.2f} "
            f"{flops / seconds / 1e9:>8.0f} {kept / 2**20:>5.0f} MiB",
            flush=True,
        )


def measure(run: Run, precision: str, rounds: int) -> tuple[float, int]:
    """Median seconds of a step after one to warm up, and the bytes kept for the backward pass.

    Raises:
        RuntimeError: When one of several processes fails; its traceback is in the message.
    """
    if run.processes == 1:
        torch.set_num_threads(default_threads())
        return _time(*_prepare(run, precision), rounds)
    with TemporaryDirectory() as folder:
        file = Path(folder, "measured")
        try:
            torch.multiprocessing.spawn(
                _measure_process, (run, precision, rounds, str(file)), nprocs=run.processes
            )
        except (ProcessRaisedException, ProcessExitedException) as error:
            raise RuntimeError(f"the step on {run.processes} processes failed: {error}") from error
        seconds, kept = json.loads(file.read_text())
        return seconds, kept


def _measure_process(rank: int, run: Run, precision: str, rounds: int, file: str) -> None:
    """One of several processes, which share the cores and the batch."""
    torch.set_num_threads(max(1, default_threads() // run.processes))
    keep_freed_memory()
    dist.init_process_group(
        "gloo",
        init_method=f"file://{file}.rendezvous",
        rank=rank,
        world_size=run.processes,
        timeout=timedelta(minutes=5),
    )
    measured = _time(*_prepare(run, precision), rounds)
    if rank == 0:
        Path(file).write_text(json.dumps(measured))
    dist.destroy_process_group()


def _prepare(run: Run, precision: str) -> tuple[nn.Module, Callable[[], object]]:
    """The model and a training step of one process."""
    model: Any
    model, optim_wrapper = build_step(run.config(), precision, torch.device("cpu"))
    if run.processes > 1:
        model = MMDistributedDataParallel(model, broadcast_buffers=False)
    images = fixed_images(run.batch_size // run.processes, run.img_size)
    return model, lambda: model.train_step(dict(inputs=images, data_samples=None), optim_wrapper)


def _time(model: nn.Module, step: Callable[[], object], rounds: int) -> tuple[float, int]:
    kept = kept_bytes(step, model)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), kept


def kept_bytes(step: Callable[[], object], model: nn.Module) -> int:
    """Bytes that autograd saves in a step, without the parameters themselves."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(size for address, size in sizes.items() if address not in parameters)
