"""The MLP of a transformer block: it keeps one map of its inner width for the backward pass.

Plain autograd keeps two, the input of the activation and its output. They are the largest of a
block, and the second is quickly made again from the first.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Of the MLP between its two linear layers, with the name that mmcv builds it by.
ACTIVATIONS = {"GELU": "GELU", "QuickGELU": "mmpretrain.QuickGELU"}


class FeedForward(FFN):
    """Two linear layers, four times as wide inside, without the residual: (B, N, D) to (B, N, D).

    Args:
        embed_dims: Width D.
        act: A key of `ACTIVATIONS`.

    Raises:
        ValueError: For an unknown activation.
    """

    def __init__(self, embed_dims: int, act: str = "GELU") -> None:
        if act not in ACTIVATIONS:
            raise ValueError(f"act '{act}' is unknown: choose from {sorted(ACTIVATIONS)}")
        act_cfg = dict(type=ACTIVATIONS[act])
        super().__init__(embed_dims, 4 * embed_dims, act_cfg=act_cfg, add_identity=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        (expand, act, _), project, _ = self.layers
        replaced = not isinstance(project, nn.Linear)  # by an adapter, e.g. mmpretrain's LoRA
        if not isinstance(act, nn.GELU) or replaced or torch.compiler.is_compiling():
            return self.layers(x)  # a compiler chooses itself what to keep
        hidden = expand(x)  # (B, N, 4D)
        # autocast does not look into a function of one's own
        weight, bias = project.weight.to(hidden.dtype), project.bias.to(hidden.dtype)
        return _GeluLinear.apply(hidden, weight, bias)


class _GeluLinear(Function):
    """linear(gelu(hidden)), which keeps `hidden` alone."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return F.linear(F.gelu(hidden), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad
        grad_hidden = grad_weight = grad_bias = None
        rows = grad_out.flatten(0, -2)  # (B*N, D)
        if wants_weight:
            grad_weight = rows.mT @ F.gelu(hidden).flatten(0, -2)
        if wants_bias:
            grad_bias = rows.sum(0)
        if wants_hidden:
            grad_hidden = torch.ops.aten.gelu_backward(grad_out @ weight, hidden)
        return grad_hidden, grad_weight, grad_bias
