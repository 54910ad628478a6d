"""What the main process and the workers of a data loader share."""

from collections.abc import Iterator

import numpy as np
import torch


class SharedTable:
    """Integers that all worker processes of a data loader see and may change.

    A copy of a data set, transforms included, keeps using the same memory.
    """

    def __init__(self, *shape: int) -> None:
        self.values = torch.zeros(shape, dtype=torch.int64).share_memory_()

    def numpy(self) -> np.ndarray:
        """The same memory, for quicker access to single numbers."""
        return self.values.numpy()

    def __deepcopy__(self, memo: dict) -> "SharedTable":
        return self


def count_samples(dataset: object) -> int:
    """Samples of a data set itself, not of what wrappers repeat or choose of it."""
    if parts := getattr(dataset, "datasets", None):
        return sum(count_samples(part) for part in parts)
    inner = getattr(dataset, "dataset", None)
    return len(dataset) if inner is None else count_samples(inner)  # type: ignore[arg-type]


def iter_transforms(dataset: object) -> Iterator[object]:
    """All transforms of a data set and of those that it wraps, nested ones included."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if inner == [None]:
        yield from _transforms_inside(getattr(dataset, "pipeline", None))
        return
    for part in inner:
        yield from iter_transforms(part)


def _transforms_inside(step: object) -> Iterator[object]:
    """The parts of mmengine's `Compose`, mmcv's `RandomChoice`, `TestTimeAug` and the like."""
    for part in (*getattr(step, "transforms", ()), *getattr(step, "subroutines", ())):
        yield part
        yield from _transforms_inside(part)
