"""Random numbers follow from the seed and from what is done, and from nothing else."""

import copy
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from PIL import Image
from torch.utils.data import DataLoader

from milan_mm.datasets.seeding import SeededBatches, SeedSample
from milan_mm.datasets.shared import iter_transforms
from milan_mm.engine.hooks import seeding
from milan_mm.engine.hooks.seeding import SampleSeedHook, SeedHook

PIPELINE = [
    dict(type="milan_mm.SeedSample"),
    dict(type="milan_mm.LoadImage"),
    dict(type="mmpretrain.RandomResizedCrop", scale=8),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmpretrain.PackInputs"),
]


class _Images(BaseDataset):
    """Eight random images."""

    def load_data_list(self) -> list[dict]:
        rng = np.random.default_rng(0)
        for i in range(8):
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path(self.data_root, f"{i}.png"))
        return [dict(img_path=f"{self.data_root}/{i}.png") for i in range(8)]


def _runner(loader: object, loop: type = EpochBasedTrainLoop, **state: object) -> SimpleNamespace:
    """What the hooks ask a runner for."""
    defaults = dict(seed=0, epoch=0, iter=0, message_hub=MessageHub("hooks"))
    return SimpleNamespace(
        train_dataloader=loader, train_loop=object.__new__(loop), **(defaults | state)
    )


def _epoch(loader: DataLoader, epoch: int, seed: int = 0) -> torch.Tensor:
    SampleSeedHook().before_train_epoch(_runner(loader, seed=seed, epoch=epoch))
    return torch.stack([sample["inputs"] for batch in loader for sample in batch])


@pytest.fixture
def dataset(tmp_path: Path) -> _Images:
    return _Images(data_root=str(tmp_path), pipeline=PIPELINE)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_pixels_are_the_same_with_any_number_of_persistent_workers(
    dataset: _Images, num_workers: int
):
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=list,
    )
    plain = DataLoader(dataset, batch_size=8, collate_fn=list)
    epochs = [_epoch(loader, epoch) for epoch in (0, 1)]
    for epoch, pixels in enumerate(epochs):
        assert torch.equal(pixels, _epoch(plain, epoch))
    assert not torch.equal(*epochs)


def test_another_seed_gives_other_pixels(dataset: _Images):
    loader = DataLoader(dataset, batch_size=8, collate_fn=list)
    assert not torch.equal(_epoch(loader, 0, seed=0), _epoch(loader, 0, seed=1))


def test_the_random_state_of_the_model_is_left_alone(dataset: _Images):
    before = torch.get_rng_state()
    dataset[3]
    assert torch.equal(torch.get_rng_state(), before)


def test_copies_and_wrappers_of_a_data_set_are_reached_by_the_hook(dataset: _Images):
    wrapped = RepeatDataset(copy.deepcopy(dataset), times=2)
    runner = _runner(SimpleNamespace(dataset=wrapped), seed=7, epoch=3)
    SampleSeedHook().before_train_epoch(runner)
    for source in (dataset, wrapped):
        (transform,) = (t for t in iter_transforms(source) if isinstance(t, SeedSample))
        assert transform.seed_and_epoch.values.tolist() == [7, 3]


def test_without_epochs_the_samples_are_seeded_by_their_place_alone(dataset: _Images):
    SampleSeedHook().before_train_epoch(
        _runner(SimpleNamespace(dataset=dataset), IterBasedTrainLoop)
    )
    np.random.seed(0)  # noqa: NPY002
    assert not torch.equal(dataset[3]["inputs"], dataset[3]["inputs"])


def _draws() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def _draws_of(
    monkeypatch: pytest.MonkeyPatch, iteration: int, rank: int = 0, **state: object
) -> tuple[float, float, float]:
    monkeypatch.setattr(seeding, "get_rank", lambda: rank)
    hub = MessageHub("hooks")
    hub.update_info("iterations_per_update", 2)
    SeedHook().before_train_iter(_runner(None, iter=iteration, message_hub=hub, **state), 0)
    return _draws()


def test_draws_follow_from_seed_update_part_and_process(monkeypatch: pytest.MonkeyPatch):
    usual = _draws_of(monkeypatch, 4)
    others = [
        _draws_of(monkeypatch, 4, seed=1),
        _draws_of(monkeypatch, 6),  # another update
        _draws_of(monkeypatch, 5),  # the second part of the same one
        _draws_of(monkeypatch, 4, rank=1),
    ]
    assert _draws_of(monkeypatch, 4) == usual
    for numbers in zip(usual, *others, strict=True):  # of each generator
        assert len(set(numbers)) == 5


@pytest.mark.parametrize("loop", [EpochBasedTrainLoop, IterBasedTrainLoop])
def test_the_loader_keeps_its_settings_and_its_batches_start_at_the_iteration(loop: type):
    loader = DataLoader([*range(8)], batch_size=2, drop_last=True)
    runner = _runner(loader, loop, seed=5, iter=3)
    hook = SeedHook()
    hook.before_train(runner)
    (batch, *_) = loader.batch_sampler
    assert (batch.seed, batch.place, batch.indices) == (5, 3 * 2, (0, 1))
    assert (loader.batch_size, loader.drop_last, len(loader)) == (2, True, 4)
    hook.before_train_epoch(runner)
    hook.before_train(runner)  # a second training with the same loader
    assert not isinstance(loader.batch_sampler.batches, SeededBatches)


def test_a_loader_without_batches_of_its_own_is_left_alone():
    loader = DataLoader([*range(8)], batch_size=None)
    hook = SeedHook()
    hook.before_train(_runner(loader))
    hook.before_train_epoch(_runner(loader))
    assert loader.batch_sampler is None
    assert [*loader] == [*range(8)]
