"""Labelled patches to compare others with, taken from all patches without a copy of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 65536  # that are copied to a GPU at a time
_SHARE_OF_GPU = 0.5  # of its free memory


@dataclass(frozen=True)
class Bank:
    """M of P patches.

    Attributes:
        features: (P, D) float16. shares: (P, C) float16 of the classes in each patch.
        rows: (M,) int64, numbers of the patches.
    """

    features: Tensor
    shares: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def on(self, device: torch.device) -> "Bank":
        """A copy of these patches alone on a GPU that has room for them; else the same bank."""
        sizes = [len(self) * each.shape[1] * each.itemsize for each in (self.features, self.shares)]
        if device.type != "cuda" or sum(sizes) > _SHARE_OF_GPU * torch.cuda.mem_get_info()[0]:
            return self
        features, shares = (self._copied(each, device) for each in (self.features, self.shares))
        return Bank(features, shares, torch.arange(len(self), device=device))

    def block(self, start: int, stop: int, device: torch.device) -> Tensor:
        """(stop - start, D) float32 features of a run of the M patches, on a device."""
        return self.features[self.rows[start:stop]].to(device).float()

    def shares_of(self, numbers: Tensor) -> Tensor:
        """Shares of patches by their numbers in 0..M, of any shape: (..., C) float32."""
        found = self.shares[self.rows[numbers.to(self.rows.device)]]
        return found.to(numbers.device).float()

    def _copied(self, values: Tensor, device: torch.device) -> Tensor:
        copy = torch.empty(len(self), values.shape[1], dtype=values.dtype, device=device)
        for place, rows in zip(copy.split(_ROWS), self.rows.split(_ROWS), strict=True):
            place.copy_(values[rows])
        return copy
