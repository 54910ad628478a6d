"""A few samples of a data set, spread over all of it; mmengine's `indices` take the first ones."""

from collections.abc import Iterator, Sized
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.registry import DATASETS as ALL_DATASETS
from torch.utils.data import Sampler

from milan_mm.registry import DATA_SAMPLERS, DATASETS


@DATASETS.register_module()
class EvenSample:
    """Wraps a data set whose samples may be sorted, by class for example.

    Args:
        dataset: Config of the data set.
        num_samples: Number of samples, each from the middle of an equal part of the data set, and
            repeated where it has fewer.
    """

    def __init__(self, dataset: dict, num_samples: int) -> None:
        self.dataset: Any = ALL_DATASETS.build(dataset)
        self.num_samples = num_samples

    @property
    def metainfo(self) -> dict:
        """Of the whole data set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Read what the data set lists."""
        self.dataset.full_init()

    def get_data_info(self, idx: int) -> dict:
        """What the data set lists of a chosen sample."""
        return self.dataset.get_data_info(self._position(idx))

    def __getitem__(self, idx: int) -> Any:
        return self.dataset[self._position(idx)]

    def __len__(self) -> int:
        return self.num_samples

    def _position(self, idx: int) -> int:
        return even_position(idx, len(self.dataset), self.num_samples)


@DATA_SAMPLERS.register_module()
class EvenSampler(Sampler):
    """`EvenSample` as a sampler, in order: the data set stays where OpenMMLab's inferencers look.

    Args:
        dataset: What is sampled.
        num_samples: Of all processes together, see `EvenSample`.
        seed: Unused, nothing is drawn.
    """

    def __init__(self, dataset: Sized, num_samples: int, seed: int | None = None) -> None:
        rank, world_size = get_dist_info()
        chosen = [even_position(i, len(dataset), num_samples) for i in range(num_samples)]
        self.positions = chosen[rank::world_size]

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def even_position(index: int, length: int, num_samples: int) -> int:
    """Position of a sample: the middle of its part, where `length` is cut into equal parts."""
    return (2 * index + 1) * length // (2 * num_samples)
