"""Augmentation depends on the seed, the epoch and the sample, and on nothing else."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, RepeatDataset
from PIL import Image
from torch.utils.data import DataLoader

from milan_mm.datasets.seeding import SeedSample
from milan_mm.datasets.shared import iter_transforms
from milan_mm.engine.hooks.seeding import SampleSeedHook

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


def _epoch(loader: DataLoader, epoch: int, seed: int = 0) -> torch.Tensor:
    runner = SimpleNamespace(train_dataloader=loader, seed=seed, epoch=epoch)
    SampleSeedHook().before_train_epoch(runner)
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
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=wrapped), seed=7, epoch=3)
    SampleSeedHook().before_train_epoch(runner)
    for source in (dataset, wrapped):
        (transform,) = (t for t in iter_transforms(source) if isinstance(t, SeedSample))
        assert transform.seed_and_epoch.values.tolist() == [7, 3]


def test_a_loop_without_epochs_is_refused(dataset: _Images):
    loop = type("IterBasedTrainLoop", (), {})()
    loader = SimpleNamespace(dataset=dataset)
    with pytest.raises(ValueError, match="SeedSample needs epochs, the loop is IterBasedTrainLoop"):
        SampleSeedHook().before_train(SimpleNamespace(train_dataloader=loader, train_loop=loop))
