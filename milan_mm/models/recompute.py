"""Inputs of layers that the backward pass computes again instead of keeping them.

Autograd keeps what enters a linear layer. Behind a LayerNorm or an activation that is a second map
as large as the one they keep themselves, from which it is quickly made again. torch's `checkpoint`
does so for any function; this costs less for a single tensor, and a pretraining step has many.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

# torch asks the innermost hooks alone. Ours pass on to those around them (of a checkpoint, or of
# one who moves tensors to the CPU), which only a private function tells, since torch 2.8. Without
# it all is kept.
_outer_hooks: Any = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)


def recompute_input(first: nn.Module, layer: Callable, x: Tensor) -> Tensor:
    """layer(first(x)), for whose backward pass `layer` keeps x in the place of its input.

    What else `layer` keeps stays as it is, and all of it does where torch compiles, traces or
    transforms functions, and where `first` is or does something else than torch's own module.

    Args:
        first: `nn.LayerNorm`, `nn.GELU` or `nn.Identity`; others run, too.
        layer: Takes the output of `first`; under autocast rounded, as linear layers would round it.
        x: For memory to be saved, a tensor that is kept in any case, e.g. by `first`.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return layer(first(x))
    device = x.device.type
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if mixed else None

    def make(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not mixed:
            return function(x)
        with torch.autocast(device, dtype):  # also in the backward pass
            made = function(x)
            return made if made.dtype == torch.float64 else made.to(dtype)

    made = make(first, x)
    function = _function(first) if torch.is_grad_enabled() and _outer_hooks else None
    if function is None:
        return layer(made)
    source, parameters = [x], list(first.parameters())
    with ExitStack() as stack:
        with suppress(RuntimeError):  # torch.func has no such hooks, and no addresses
            hooks = _hooks(made, partial(make, function), source, parameters)
            stack.enter_context(hooks)
        stack.callback(source.clear)  # torch keeps the hooks, and they would keep x
        return layer(made)


def has_hooks(module: nn.Module) -> bool:
    """Whether calling this module runs more than its `forward`, there or in the backward pass."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _function(first: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What the module computes with the parameters that it has now; None if that is not known."""
    if has_hooks(first):
        return None
    if type(first) is nn.LayerNorm:
        shape, weight, bias, eps = first.normalized_shape, first.weight, first.bias, first.eps
        return partial(F.layer_norm, normalized_shape=shape, weight=weight, bias=bias, eps=eps)
    return first.forward if type(first) in (nn.GELU, nn.Identity) else None


def _hooks(
    made: Tensor,
    make: Callable[[Tensor], Tensor],
    source: list[Tensor],
    parameters: Sequence[Tensor],
) -> saved_tensors_hooks:
    """Hooks that keep the source where autograd would keep this tensor or a view of all of it."""
    outer_pack, outer_unpack = _outer_hooks(True) or (_pack, _unpack)
    place, version, x_version = made.data_ptr(), made._version, source[0]._version
    versions = [parameter._version for parameter in parameters]
    # tensors without memory of their own have address 0
    replaceable = place != 0 and made.is_contiguous()
    kind = (made.layout, made.dtype, made.numel())

    def pack(kept: Tensor) -> tuple[torch.Size | None, Any]:
        is_made = (
            replaceable
            and (kept.layout, kept.dtype, kept.numel()) == kind
            and kept.data_ptr() == place
            and kept.is_contiguous()
            and kept._version == version
            and source[0]._version == x_version
        )
        return (kept.shape, outer_pack(source[0])) if is_made else (None, outer_pack(kept))

    def unpack(packed: tuple[torch.Size | None, Any]) -> Tensor:
        shape, kept = packed[0], outer_unpack(packed[1])
        if shape is None:
            return kept
        for parameter, version in zip(parameters, versions, strict=True):
            _check_version(parameter, version)
        with torch.no_grad():
            return make(kept).view(shape)

    return saved_tensors_hooks(pack, unpack)


# What autograd does without hooks. Detached, because an output that its own operation keeps would
# keep that operation alive.
def _pack(kept: Tensor) -> tuple[Tensor, int]:
    return kept.detach(), kept._version


def _unpack(packed: tuple[Tensor, int]) -> Tensor:
    _check_version(*packed)
    return packed[0]


def _check_version(kept: Tensor, version: int) -> None:
    if kept._version != version:
        raise RuntimeError(
            f"a tensor {tuple(kept.shape)} that the backward pass needs was changed in place after "
            "the forward pass: change a copy, or change it after the backward pass"
        )
