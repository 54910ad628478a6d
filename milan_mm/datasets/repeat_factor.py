"""A sampler that shows images with rare classes more often."""

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch import Tensor
from torch.utils.data import Sampler

from milan_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(Sampler):
    """An endless sampler that repeats images by their rarest class (LVIS, arXiv 1908.03195).

    A class in a share f of the images asks for `max(1, sqrt(threshold / f))` repeats, an image for
    as many as the rarest of its classes does. The part behind the point is drawn anew in every pass
    over the data, as in detectron2; mmdet's `ClassBalancedDataset` rounds up, so that an image that
    asks for 1.01 is seen twice.

    Args:
        dataset: Of mmdet, with `get_cat_ids(index)`.
        threshold: Share of the images below which a class is rare.
        shuffle: Whether every pass has an order of its own.
        seed: The same in all processes; None draws one.
    """

    def __init__(
        self,
        dataset: Sized,
        threshold: float = 1e-3,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.factors = repeat_factors(dataset, threshold)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[int]:
        """Deal out the indices of all passes to the processes in turn."""
        yield from islice(self._indices(), self.rank, None, self.world_size)

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: there is no end."""

    def _indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            drawn = torch.rand(self.size, generator=generator) < self.factors.frac()
            repeats = (self.factors.floor() + drawn).long()
            indices = torch.arange(self.size).repeat_interleave(repeats)
            if self.shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()


def repeat_factors(dataset: Any, threshold: float) -> Tensor:
    """(N,) float, at least 1: how often a pass shows each image on average."""
    classes = [sorted(set(dataset.get_cat_ids(index))) for index in range(len(dataset))]
    lengths = torch.tensor([len(of_image) for of_image in classes])
    flat = torch.tensor([label for of_image in classes for label in of_image], dtype=torch.long)
    shares = torch.bincount(flat).double() / max(len(classes), 1)
    asked = (threshold / shares).sqrt().clamp(min=1)  # of a class without images: never looked up
    factors = torch.ones(len(classes), dtype=torch.double)
    owner = torch.arange(len(classes)).repeat_interleave(lengths)
    return factors.scatter_reduce(0, owner, asked[flat], "amax")
