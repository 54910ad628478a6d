"""The MLP of a transformer block: it keeps one map of its inner width for the backward pass.

Plain autograd keeps two, the input of GELU and its output. They are the largest of a block, and the
second is quickly made again from the first.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import Linear
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn
from torch.autograd import Function

# Of the MLP between its two linear layers, with the name that mmcv builds it by.
ACTIVATIONS = {"GELU": "GELU", "QuickGELU": "mmpretrain.QuickGELU"}


class FeedForward(FFN):
    """Two linear layers, four times as wide inside, without the residual: (B, N, D) to (B, N, D).

    Layers that were changed from outside - adapters, hooks, pruning, dropout - run as they are and
    keep both maps, as do QuickGELU and compiled blocks, whose compiler chooses itself.

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
        recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if recorded or not torch.is_grad_enabled() or self._is_changed():
            return self.layers(x)
        (expand, _, _), project, _ = self.layers
        hidden = expand(x)  # (B, N, 4D)
        # rounded here, because the backward pass, which reads them too, runs without autocast
        weight, bias = project.weight.to(hidden.dtype), project.bias.to(hidden.dtype)
        return _GeluLinear.apply(hidden, weight, bias)

    def _is_changed(self) -> bool:
        (_, act, inner_dropout), project, dropout = self.layers
        return (
            type(act) is not nn.GELU
            or act.approximate != "none"
            or type(project) is not Linear  # LoRA, quantisation
            or project.bias is None
            or inner_dropout.p > 0
            or dropout.p > 0
            or any(_has_hooks(part) for part in (act, inner_dropout, project, dropout))
        )


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


class _GeluLinear(Function):
    """linear(gelu(hidden)), which keeps `hidden` alone."""

    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(F.gelu(hidden), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        hidden, weight, _ = inputs
        ctx.save_for_backward(hidden, weight)

    @staticmethod
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
