"""Norms of encoder and decoders."""

import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """torch's, which computes in the type of its weight, as LayerNorms do under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps)


def layer_norm(dims: int, eps: float = 1e-6) -> nn.LayerNorm:
    """LayerNorm, by default with the epsilon of all MAE-family ViTs."""
    return nn.LayerNorm(dims, eps=eps)


def build_norm(dims: int, eps: float = 1e-6, kind: str = "LN") -> nn.LayerNorm | RMSNorm:
    """A LayerNorm, or of the kind 'RMS' an RMSNorm, which has no bias (arXiv 1910.07467)."""
    return RMSNorm(dims, eps=eps) if kind == "RMS" else layer_norm(dims, eps)
