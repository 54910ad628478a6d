"""A few samples of a data set, spread over all of it; mmengine's `indices` take the first ones."""

from typing import Any

from mmengine.registry import DATASETS as ALL_DATASETS

from milan_mm.registry import DATASETS


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
        return (2 * idx + 1) * len(self.dataset) // (2 * self.num_samples)
