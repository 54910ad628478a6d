"""Activations of the MLPs, by the names that the option `act` takes."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from timm.layers import QuickGELU
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """Half of the channels, times gates that the other half sets: SiLU(gate) * value.

    Source: arXiv 2002.05202.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2H), gates first, to (..., H)."""
        gates, values = x.chunk(2, dim=-1)
        return F.silu(gates) * values


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "GELU": nn.GELU,
    "GELUTanh": partial(nn.GELU, approximate="tanh"),
    "QuickGELU": QuickGELU,
    "SiLU": partial(nn.SiLU, inplace=True),
    "SwiGLU": SwiGLU,
}
