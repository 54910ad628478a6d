"""What is drawn for a sample depends on the seed and on its place in the run."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from mmdet.datasets import MultiImageMixDataset
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from torch.utils.data import BatchSampler, DataLoader

from milan_mm.datasets.seeding import SeededBatches
from milan_mm.datasets.shared import SharedTable
from milan_mm.engine.loops import EndlessBatches

IMAGES, BATCH = 10, 2
Sample = tuple[int, float, float, float]


class Draw:
    """A transform that draws from the three generators, and counts what it is given."""

    def __init__(self) -> None:
        self.reads = SharedTable(1)

    def __call__(self, results: dict) -> dict:
        self.reads.numpy()[0] += 1
        numbers = random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002
        return dict(results, numbers=numbers)


class Numbers(BaseDataset):
    """Ten samples, portraits and landscapes in turn; `unreadable` of them cannot be read."""

    METAINFO: ClassVar = dict(classes=("a", "b"))

    def __init__(self, unreadable: int = 0, **settings: Any) -> None:
        self.unreadable = unreadable
        super().__init__(pipeline=[Draw()], **settings)

    def load_data_list(self) -> list[dict]:
        return [dict(width=1 + i % 3, height=2, label=i % 4) for i in range(IMAGES)]

    def get_cat_ids(self, idx: int) -> list[int]:
        return [int(idx == 0)]

    def prepare_data(self, idx: int) -> dict | None:
        return None if idx < self.unreadable else super().prepare_data(idx)


@MMDET_TRANSFORMS.register_module(name="MixTwo", force=True)
class MixTwo:
    """Adds the numbers of another sample, as Mosaic does."""

    def get_indexes(self, dataset: BaseDataset) -> int:
        return random.randrange(len(dataset))

    def __call__(self, results: dict) -> dict:
        (other,) = results["mix_results"]
        mixed = (*results["numbers"], *other["numbers"], random.random())
        return dict(sample_idx=results["sample_idx"], numbers=mixed)


def loader_of(dataset: Any, workers: int = 0, sampler: Any = None, **settings: Any) -> DataLoader:
    """A loader as the runner builds it, with seeded batches from iteration 0 on."""
    if "batch_sampler" not in settings:
        sampler = sampler or InfiniteSampler(dataset, seed=3)
        settings = dict(batch_size=BATCH, sampler=sampler) | settings
    loader = DataLoader(dataset, num_workers=workers, collate_fn=list, **settings)
    object.__setattr__(loader, "batch_sampler", SeededBatches(loader.batch_sampler))
    loader.batch_sampler.start(seed=7, iteration=0)
    return loader


def samples(loader: DataLoader, batches: int) -> list[Sample]:
    """Number of each sample, and what was drawn for it."""
    iterator = islice(loader, batches)
    return [(sample["sample_idx"], *sample["numbers"]) for batch in iterator for sample in batch]


def test_what_is_drawn_does_not_depend_on_the_number_of_workers():
    dataset = Numbers()
    alone = samples(loader_of(dataset), 12)
    for workers in (1, 2):
        assert samples(loader_of(dataset, workers, persistent_workers=True), 12) == alone
    assert len({numbers for _, *numbers in map(tuple, alone) for numbers in numbers}) == 3 * 24


WRAPPED = dict(
    concat=lambda: ConcatDataset([Numbers(), Numbers()]),
    repeat=lambda: RepeatDataset(Numbers(), times=3),
    balanced=lambda: ClassBalancedDataset(Numbers(), oversample_thr=0.5),
    mixed=lambda: MultiImageMixDataset(Numbers(), [dict(type="MixTwo")]),
    # another one is drawn in the place of each of them
    unreadable=lambda: Numbers(unreadable=5),
)


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_and_replaced_samples_are_the_same_for_any_number_of_workers(kind: str):
    dataset = WRAPPED[kind]()
    alone = samples(loader_of(dataset), 12)
    assert samples(loader_of(dataset, 2), 12) == alone
    numbers = [numbers for _, *numbers in alone]
    assert len({tuple(row) for row in numbers}) == 24  # a sample looks otherwise each time


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["infinite", "passes", "by shape"])
def test_a_resumed_run_reads_the_remaining_samples_and_no_others(kind: str, workers: int):
    def build(dataset: Numbers) -> DataLoader:
        if kind == "by shape":
            batches = AspectRatioBatchSampler(InfiniteSampler(dataset, seed=3), BATCH)
            return loader_of(dataset, workers, batch_sampler=batches)
        sampler = DefaultSampler(dataset, seed=3) if kind == "passes" else None
        return loader_of(dataset, workers, sampler)

    def run(loader: DataLoader, batches: int) -> list[Sample]:
        endless = EndlessBatches(loader)
        return [
            (sample["sample_idx"], *sample["numbers"])
            for batch in islice(endless, batches)
            for sample in batch
        ]

    whole = run(build(Numbers()), 17)
    dataset = Numbers()
    loader = build(dataset)
    loader.batch_sampler.start(seed=7, iteration=13)  # in the third pass
    loader.batch_sampler.skip(13)
    assert run(loader, 4) == whole[13 * BATCH :]
    read_ahead = 3 * workers
    assert dataset.pipeline.transforms[0].reads.values.item() <= (4 + read_ahead) * BATCH


@pytest.mark.parametrize(("processes", "parts"), [(2, 1), (1, 2), (2, 2)])
def test_a_sample_is_drawn_alike_for_every_split_of_the_batch(processes: int, parts: int):
    def process(rank: int, processes: int, parts: int) -> list[Sample]:
        sampler = InfiniteSampler(dataset, seed=3)
        sampler.rank, sampler.world_size = rank, processes
        loader = loader_of(dataset, sampler=sampler, batch_size=4 // processes // parts)
        loader.batch_sampler.rank, loader.batch_sampler.world_size = rank, processes
        return samples(loader, 3 * parts)

    dataset = Numbers()
    whole = process(0, 1, 1)
    split = [process(rank, processes, parts) for rank in range(processes)]
    assert [sample for row in zip(*split, strict=True) for sample in row] == whole


def test_settings_of_the_batch_sampler_stay_in_reach():
    batches = SeededBatches(BatchSampler(range(9), 2, drop_last=True))
    assert (batches.batch_size, batches.drop_last, len(batches)) == (2, True, 4)
    assert isinstance(iter(batches), Iterator)


def test_each_of_several_data_sets_may_have_a_batch_size_of_its_own():
    class Several(list):  # as mmdet's MultiDataAspectRatioBatchSampler
        batch_size = (2, 3)

    batches = SeededBatches(Several([[0, 1], [2, 3, 4]]))
    assert [batch.place for batch in batches] == [0, 3]
