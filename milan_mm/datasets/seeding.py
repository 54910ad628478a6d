"""Augmentation that depends on the seed and on what is read, not on who reads it, or when.

Usually the random numbers of a transform depend on which process and which worker reads the sample,
and on all that it has read before. Here the generators are seeded anew for each sample. So a run
sees the same pixels on any number of workers, and after a resume: nothing has to be saved.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from milan_mm.datasets.shared import SharedTable
from milan_mm.registry import TRANSFORMS

NO_EPOCH = -1  # what `SeedSample` gets from a run that counts iterations only


def seed_generators(*entropy: int) -> int:
    """Seed Python's and numpy's generators, and torch's on the CPU.

    Args:
        entropy: What the numbers are to depend on, each >= 0.

    Returns:
        A seed for generators elsewhere, such as those of GPUs.
    """
    # torch's CPU generator uses only the lower 32 bits of its seed, numpy's takes no more
    words = np.random.SeedSequence(entropy).generate_state(4).tolist()
    random.seed(words[0])
    np.random.seed(words[1])  # noqa: NPY002 (transforms and models draw from the global state)
    torch.default_generator.manual_seed(words[2])
    return words[3]


@dataclass(frozen=True)
class SeededBatch:
    """The indices of a batch, which seed the generators when a sample is about to be read.

    torch's loader reads `[dataset[i] for i in batch]`, in a worker or in the main process. So
    whatever a data set draws for a sample follows from the seed and the sample's place: wrappers
    that mix images, those that replace an unreadable one, and transforms of any library.

    Args:
        indices: Of the data set.
        seed: Of the run.
        place: Of the first sample among all that the run reads. step: To that of the next one.
    """

    indices: tuple[int, ...]
    seed: int
    place: int
    step: int

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        for i, index in enumerate(self.indices):
            seed_generators(self.seed, self.place + i * self.step)
            yield index


class SeededBatches:
    """A batch sampler whose batches are seeded, and which can start anywhere in a run.

    A sample's place in the run does not depend on how a total batch is split: samplers deal out
    their order to the processes in turn.

    Args:
        batches: The batch sampler of a torch data loader.
        rank, world_size: Of this process.
    """

    def __init__(self, batches: Iterable[list[int]], rank: int = 0, world_size: int = 1) -> None:
        self.batches = batches
        self.rank = rank
        self.world_size = world_size
        self._seed = self._iteration = self._skipped = 0

    def __getattr__(self, name: str) -> object:
        """As the batch sampler has it: `sampler`, `batch_size`, `drop_last`."""
        if name == "batches":  # not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def start(self, seed: int, iteration: int) -> None:
        """Say which iteration of a run the next batch is for. Workers must not have started."""
        self._seed, self._iteration = seed, iteration

    def skip(self, batches: int) -> None:
        """Leave out the next batches without reading them; they may span several passes."""
        self._skipped = batches

    def __iter__(self) -> Iterator[SeededBatch]:
        for indices in self._rest():
            size = getattr(self.batches, "batch_size", None) or len(indices)
            # mmdet's sampler for several data sets has one for each
            largest = max(size) if isinstance(size, Sequence) else size
            place = self._iteration * largest * self.world_size + self.rank
            self._iteration += 1
            yield SeededBatch(tuple(indices), self._seed, place, self.world_size)

    def _rest(self) -> Iterator[list[int]]:
        """The pass, or what is left of the one that comes after the skipped batches."""
        skipped, self._skipped = self._skipped, 0
        while True:
            has_more = False
            for indices in self.batches:
                has_more = True
                if skipped:
                    skipped -= 1
                else:
                    yield indices
            if not skipped or not has_more:
                return
            next_pass(self)


def next_pass(batches: object) -> None:
    """Let the sampler of a batch sampler go on with the order of its next pass."""
    sampler: Any = getattr(batches, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(getattr(sampler, "epoch", 0) + 1)


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seeds Python's and numpy's generators by the seed, the epoch and the sample's number.

    Put it first in a pipeline; `SampleSeedHook` sets the seed and the epoch. With it a sample that
    is read twice in an epoch looks the same both times. torch's generator is left alone. In a run
    without epochs it does nothing: `SeededBatch` seeds each sample there.
    """

    def __init__(self) -> None:
        self.seed_and_epoch = SharedTable(2)

    def transform(self, results: dict) -> dict:
        """Needs `sample_idx`, which every mmengine data set provides; changes nothing."""
        seed, epoch = self.seed_and_epoch.numpy().tolist()
        if epoch != NO_EPOCH:
            entropy = (seed, epoch, results["sample_idx"])
            state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
            random.seed(state)
            np.random.seed(state)  # noqa: NPY002 (transforms draw from numpy's global state)
        return results
