"""Some rows of a feature matrix that is mapped from the disk, as batches on the device."""

from collections.abc import Iterator

import torch
from torch import Tensor

from milan_mm.evaluation.features import find_device

_CHUNK_BYTES = 64 * 2**20
_ON_CPU = 2**30  # bytes of features that are kept in memory rather than read again for each pass
_SHARE_OF_GPU = 0.5  # of its free memory


class Rows:
    """Labelled feature vectors that an optimizer passes over again and again.

    They are copied to the device if they fit there: half of the free memory of a GPU, 1 GiB on
    CPUs. Larger ones are read in batches in each pass, which the system's cache of the file serves.

    Args:
        features: (N, D) float, mapped. labels: (N,) int64.
        index: (n,) int64, the rows; None takes all.
        dtype: Of the batches.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        index: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = find_device()
        self.dtype, self.width = dtype, features.shape[1]
        self._features, self._index = features, index
        self.labels = (labels if index is None else labels[index]).to(self.device)
        self._kept: Tensor | None = None
        self._rotation: tuple[Tensor, Tensor] | None = None
        size = len(self) * self.width * dtype.itemsize
        if size <= self._limit():
            self._kept = torch.empty(len(self), self.width, dtype=dtype, device=self.device)
            for start, stop in self._bounds():
                self._kept[start:stop] = self._read(start, stop)

    def rotate(self, mean: Tensor, axes: Tensor) -> None:
        """Turn every row x into (x - mean) @ axes, also of rows that are read later.

        Args:
            mean: (D,) and axes: (D, A), of the type and on the device of the batches.
        """
        self._rotation = mean, axes
        if self._kept is not None:
            width = axes.shape[1]
            rotated = self._kept if width == self.width else self._kept.new_empty(len(self), width)
            for start, stop in self._bounds():
                rotated[start:stop] = (self._kept[start:stop] - mean) @ axes
            self._kept = rotated

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(b, D) of `dtype`, or (b, A) once rotated, and (b,) int64 labels, on the device."""
        for start, stop in self._bounds():
            part = self._read(start, stop) if self._kept is None else self._kept[start:stop]
            yield part, self.labels[start:stop]

    def _bounds(self) -> Iterator[tuple[int, int]]:
        step = max(1, _CHUNK_BYTES // (self.width * self.dtype.itemsize))
        for start in range(0, len(self), step):
            yield start, min(start + step, len(self))

    def _read(self, start: int, stop: int) -> Tensor:
        where = slice(start, stop) if self._index is None else self._index[start:stop]
        part = self._features[where].to(self.device, self.dtype)
        if self._rotation is None:
            return part
        mean, axes = self._rotation
        return (part - mean) @ axes

    def _limit(self) -> float:
        if self.device.type == "cuda":
            return _SHARE_OF_GPU * torch.cuda.mem_get_info()[0]
        return _ON_CPU
