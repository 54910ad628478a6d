"""Norms of many tensors, also of sharded ones, without reading them from their device."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm


@torch.no_grad()
def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The 2-norm of all values together, () float on the device of the first tensor; 0 of nothing.

    NaN and infinity among the values make it NaN or infinite. Of shards (`DTensor`) it is the norm
    of the whole, for which their processes exchange a number.
    """
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    for tensor in tensors:
        parts[isinstance(tensor, DTensor)].append(stored(tensor))
    norms = [_whole(get_total_norm(part)) for part in parts.values() if part]
    return norms[0] if len(norms) == 1 else get_total_norm(norms)


@torch.no_grad()
def is_finite(tensor: Tensor) -> bool:
    """Whether none of the values, those of other shards included, is NaN or infinite."""
    if isinstance(tensor, DTensor):  # for which torch has no `isfinite`; 0 x inf is NaN
        return bool(total_norm([tensor.detach() * 0]).isfinite())
    return bool(tensor.isfinite().all())


def stored(tensor: Tensor) -> Tensor:
    """The tensor, or of a sparse one the values that it holds."""
    return tensor.coalesce().values() if tensor.is_sparse else tensor


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """The norm of an optimizer's gradients, () float; 0 without any. A loss scale is taken out."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    norm = total_norm([p.grad for p in parameters if p.grad is not None])
    # set for a fused optimizer, which takes the loss scale out by itself
    scale = getattr(optimizer, "grad_scale", None)
    return norm if scale is None else norm / scale
