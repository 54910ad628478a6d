"""`benchmark.py data --profile`: where the time of both pipelines goes, stage by stage."""

import argparse
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from unittest.mock import patch

import cv2
import mmcv
import torch
from mmengine import fileio
from mmengine.dataset import BaseDataset, default_collate

from benchmarks.stopwatch import Stopwatch
from milan_mm.benchmark.data import BATCH_SIZE, check_numbers, load_pipelines, open_images
from milan_mm.datasets import crops

STAGES = ("read", "decode", "crop, resize, flip", "pack", "collate", "the rest")
_STAGE_OF = dict(
    LoadImageFromFile="decode",  # without reading, which is timed by itself
    LoadRandomResizedCrop="crop, resize, flip",  # without reading and decoding
    RandomResizedCrop="crop, resize, flip",
    RandomFlip="crop, resize, flip",
    PackInputs="pack",
)
# What the transforms call, by the module in which they look it up
_INNER = (
    (fileio, "get", "read"),
    (crops, "read_content", "read"),
    (mmcv, "imfrombytes", "decode"),
    (crops, "decode_part", "decode"),
)


def run(args: argparse.Namespace) -> None:
    """Print the milliseconds per image of each stage.

    Args:
        args: `dir`, `images`, `rounds` and `size`; see tools/benchmark.py.

    Raises:
        MissingFileError: When there are no images.
        UserError: For numbers below 1.
    """
    check_numbers(args)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pipelines, _ = load_pipelines(args.size)
    datasets = {
        name: open_images(pipeline, args.dir, args.images) for name, pipeline in pipelines.items()
    }
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in datasets}
    for _ in range(1 + args.rounds):
        for name, dataset in datasets.items():
            passes[name].append(stage_seconds(dataset, BATCH_SIZE))
    medians = {
        name: {stage: statistics.median(row[stage] for row in rows[1:]) for stage in STAGES}
        for name, rows in passes.items()  # the first pass warms up
    }
    print(stage_table(medians))


def stage_table(stages: dict[str, dict[str, float]]) -> str:
    """Milliseconds per image, one column per contestant.

    Args:
        stages: Of each contestant, seconds per image of each stage.
    """
    lines = [f"{'ms per image, one core':<24}" + "".join(f"{name:>12}" for name in stages)]
    for stage in STAGES:
        numbers = (f"{1e3 * seconds[stage]:>12.3f}" for seconds in stages.values())
        lines.append(f"  {stage:<22}" + "".join(numbers))
    sums = (f"{1e3 * sum(seconds.values()):>12.3f}" for seconds in stages.values())
    return "\n".join([*lines, f"  {'sum':<22}" + "".join(sums)])


def stage_seconds(dataset: BaseDataset, batch_size: int) -> dict[str, float]:
    """Seconds per image of each of `STAGES`, over one pass through a data set.

    A last incomplete batch is left out.
    """
    watch = Stopwatch(perf_counter)
    transforms = [
        watch.timed(_STAGE_OF.get(type(transform).__name__, "the rest"), transform)
        for transform in dataset.pipeline.transforms
    ]
    collate = watch.timed("collate", default_collate)
    num_batches = len(dataset) // batch_size
    with ExitStack() as stack:
        for module, name, stage in _INNER:
            function = watch.timed(stage, getattr(module, name))
            stack.enter_context(patch.object(module, name, function))
        batches = watch.timed("the rest", _batches)
        batches(dataset, transforms, collate, num_batches, batch_size)
    return {stage: watch.seconds[stage] / (num_batches * batch_size) for stage in STAGES}


def _batches(
    dataset: BaseDataset,
    transforms: list[Callable],
    collate: Callable,
    num_batches: int,
    batch_size: int,
) -> None:
    for batch in range(num_batches):
        samples = []
        for index in range(batch * batch_size, (batch + 1) * batch_size):
            sample = dataset.get_data_info(index)
            for transform in transforms:
                sample = transform(sample)
            samples.append(sample)
        collate(samples)
