"""`benchmark.py speed`: images per second of our step, alone and with its data loader.

Each line also gives the step's share of the machine's matrix rate, see `matrix_rate.py`: its model
FLOP utilisation (MFU) against a measured peak.
"""

import argparse
import copy
import gc
from collections.abc import Callable, Iterator

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from milan_mm.benchmark.contest import default_device, default_threads, now
from milan_mm.benchmark.data import build_dataset
from milan_mm.benchmark.flop_count import count_flops
from milan_mm.benchmark.matrix_rate import matrix_rate
from milan_mm.benchmark.pretrain import TEACHER
from milan_mm.benchmark.pretrain_steps import build_step, our_config, pinned_images
from milan_mm.engine.hooks.compiling import compile_parts
from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS

Batches = Iterator[dict]


def run(args: argparse.Namespace) -> None:
    """Print a line for every encoder, batch and way of loading.

    Args:
        args: `arch` (list), `batch_size` (list or None), `rounds`, `compile`, `dir`, `workers`,
            `precision`; see tools/benchmark.py.

    Raises:
        UserError: For counts below 1, and for `workers` without `dir`.
        MissingFileError: When `dir` holds no images.
    """
    workers = default_threads() if args.workers is None else args.workers
    batch_sizes = args.batch_size or [512 if torch.cuda.is_available() else 8]
    if min(args.rounds, workers, *batch_sizes) < 1:
        raise UserError("--rounds, --workers and --batch-size must be 1 or more")
    if args.workers is not None and not args.dir:
        raise UserError("--workers is for loading images: add --data DIR")
    if args.dir:
        _open_folder(_config(args.arch[0]), args.dir)  # now, not after the first measurement
    peak = matrix_rate(args.precision)
    print(
        f"{_device_name()}: a matrix product in {args.precision} reaches {peak / 1e12:.2f} TFLOP/s"
    )
    print(f"our step in {args.precision}, {'compiled' if args.compile else 'not compiled'}")
    print(
        f"{'ViT':<6} {'batch':>5} {'images from':<18} {'images/s':>9} {'s/step':>7} {'TFLOP/s':>8} "
        f"{'MFU':>6} {'peak memory':>12}"
    )
    for arch in args.arch:
        for batch_size in batch_sizes:
            measure(arch, batch_size, peak, workers, args)


def measure(
    arch: str, batch_size: int, peak: float, workers: int, args: argparse.Namespace
) -> None:
    """Print the lines of one encoder and batch."""
    config = _config(arch)
    model, optim_wrapper = build_step(config, args.precision, default_device())
    flops = count_flops(model.train_step, next(synthetic(batch_size)), optim_wrapper)
    if args.compile:
        compile_parts(model)
    sources: dict[str, Callable[[], Batches]] = {"memory": lambda: synthetic(batch_size)}
    if args.dir:
        sources[f"{workers} loaders"] = lambda: loaded(config, args.dir, batch_size, workers)
    for name, make_batches in sources.items():
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        seconds = time_steps(model, optim_wrapper, make_batches(), args.rounds)
        rate = flops / seconds
        memory = ""
        if torch.cuda.is_available():
            memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        print(
            f"{arch:<6} {batch_size:>5} {name:<18} {batch_size / seconds:>9.1f} "
            f"{seconds:>7.3f} {rate / 1e12:>8.2f} {rate / peak:>6.1%} {memory:>12}",
            flush=True,
        )
    del model, optim_wrapper
    gc.collect()
    torch.cuda.empty_cache()


def time_steps(
    model: BaseModel, optim_wrapper: OptimWrapper, batches: Batches, rounds: int
) -> float:
    """Mean seconds of `rounds` steps after three to warm up, waiting for images included."""
    for i in range(-3, rounds):
        if i == 0:
            start = now()
        losses = model.train_step(next(batches), optim_wrapper)
        losses["loss"].item()  # a run logs every loss, and waits for it
    return (now() - start) / rounds


def synthetic(batch_size: int) -> Batches:
    """The same noise, forever."""
    images = pinned_images(batch_size)
    while True:
        yield dict(inputs=images, data_samples=None)


def loaded(config: Config, folder: str, batch_size: int, workers: int) -> Batches:
    """Batches of the recipe's own loader, which repeats the images of a folder tree."""
    settings = copy.deepcopy(config.train_dataloader)
    dataset = _open_folder(config, folder)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        # so long that no epoch ends while we measure
        settings.dataset = RepeatDataset(dataset, times=-(-100 * batch_size // len(dataset)))
        settings.update(batch_size=batch_size, num_workers=workers)
        loader = Runner.build_dataloader(settings, seed=0)
    while True:
        yield from loader


def _open_folder(config: Config, folder: str) -> BaseDataset:
    return build_dataset(config.train_dataloader.dataset | dict(data_root=folder, data_prefix=""))


def _config(arch: str) -> Config:
    return our_config(ARCHS[arch], TEACHER, "random")


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {default_threads()} threads"
