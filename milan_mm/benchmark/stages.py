"""Where the time of a data pipeline goes: read, decode, crop, flip, pack, collate."""

from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from unittest.mock import patch

import mmcv
from mmengine import fileio
from mmengine.dataset import BaseDataset, default_collate

from milan_mm.benchmark.stopwatch import Stopwatch
from milan_mm.datasets import crops

STAGES = ("read", "decode", "crop, resize, flip", "pack", "collate", "the rest")
_STAGE_OF = dict(
    LoadImageFromFile="decode",  # beside reading, which is timed by itself
    LoadRandomResizedCrop="crop, resize, flip",  # beside reading and decoding
    RandomResizedCrop="crop, resize, flip",
    RandomFlip="crop, resize, flip",
    PackInputs="pack",
)
# What loaders call, by the place where they look it up.
_INNER = (
    (fileio, "get", "read"),
    (mmcv, "imfrombytes", "decode"),
    (crops, "decode_part", "decode"),
)


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
