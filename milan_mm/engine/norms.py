"""Norms of many tensors, also of sharded ones, without reading them from their device."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm


@torch.no_grad()
def total_norm(tensors: Iterable[Tensor], order: float = 2.0) -> Tensor:
    """The norm of all values together, () float on the device of the first tensor.

    NaN and infinity among the values make it NaN or infinite. Of shards (`DTensor`) it is the norm
    of the whole, for which their processes exchange a number each.
    """
    kinds: dict[bool, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(isinstance(tensor, DTensor), []).append(tensor)
    if not kinds:
        return get_total_norm([], order)
    # a model may have both: weights are spread over processes, buffers are not
    norms: list[Any] = [get_total_norm(same, order) for same in kinds.values()]
    norms = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    return norms[0] if len(norms) == 1 else get_total_norm(norms, order)


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """The norm of an optimizer's gradients, () float; 0 without any. A loss scale is taken out."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    norm = total_norm([p.grad for p in parameters if p.grad is not None])
    # set for a fused optimizer, which takes the loss scale out by itself
    scale = getattr(optimizer, "grad_scale", None)
    return norm if scale is None else norm / scale
