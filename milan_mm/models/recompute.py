"""Inputs of layers that the backward pass computes again instead of keeping them.

A pre-norm block is a chain of steps `layer(first(x))`: `first` is a LayerNorm or an activation, and
`layer` starts with a linear layer. Autograd keeps what their gradients need:

    by itself                            with `recompute_input`

      x ------ kept, for first             x ------ kept, for first and for layer
      |                                    |
    first                                first
      |                                    |
     made ---- kept, for layer            made ---- freed once layer has run
      |                                    |
    layer                                layer
      |                                    |
     out                                  out

`made` is as large as `x`, and quickly computed from it. In the backward pass it is computed again,
used for the gradient of the linear layer's weight, and freed. Over all blocks, that saves about a
third of what a pretraining step keeps. `torch.utils.checkpoint` does the same for any function, but
takes more time for a single tensor, and a step has many of them.

`saved_tensors_hooks` ask us about every tensor that autograd is about to keep while `layer`
runs (`pack`), and again when the backward pass needs it (`unpack`). If the tensor is `made`, or a
view of all of it, `pack` keeps `x` and the shape instead; everything else is kept as usual. Three
things need care:

- *Is it `made`?* Autograd does not pass the object that we have but another one on the same
  memory. It is `made` if address, layout, type and number of elements agree, and if nothing was
  changed in place since (`Tensor._version` counts the changes). Two tensors that live at the same
  time cannot share an address, and `made` lives at least until `layer` returns.
- *Changes in place after the forward pass.* Autograd refuses to use a kept tensor that was changed
  since. With hooks it no longer checks, so we do: for `x`, and for the parameters of `first`.
- *Hooks around us*, of `checkpoint` or of a user who moves kept tensors to the CPU. torch asks only
  the innermost hooks, so ours have to pass everything on to those around them. Only a private
  function says which these are (`torch_private.outer_hooks`). Without it everything is kept.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from milan_mm.models.activations import SwiGLU
from milan_mm.models.norms import RMSNorm
from milan_mm.torch_private import has_hooks, outer_hooks, sees_outer_hooks


def recompute_input(first: nn.Module, layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute layer(first(x)), saving x for the backward pass instead of first(x).

    Everything is kept as usual where torch compiles, traces or transforms functions, and where
    `first` is, or does, anything other than torch's own module.

    Args:
        first: `nn.LayerNorm`, `RMSNorm`, `nn.GELU`, `SwiGLU` or `nn.Identity`; any other module
            runs, but its output is kept.
        layer: Takes the output of `first`; under autocast this is rounded, as a linear layer would
            round it.
        x: A tensor that is kept in any case, e.g. by `first`; otherwise no memory is saved.

    Raises:
        RuntimeError: In the backward pass, if a tensor that it needs was changed in place.
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
    function = _function(first) if torch.is_grad_enabled() and sees_outer_hooks() else None
    if function is None:
        return layer(made)
    source, parameters = [x], list(first.parameters())
    with ExitStack() as stack:
        with suppress(RuntimeError):  # torch.func has no such hooks, and no addresses
            hooks = _hooks(made, partial(make, function), source, parameters)
            stack.enter_context(hooks)
        stack.callback(source.clear)  # torch keeps the hooks, and they would keep x
        return layer(made)


def _function(first: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The function that the module computes with its present parameters; None if not known."""
    if has_hooks(first):
        return None
    if type(first) is nn.LayerNorm:
        shape, weight, bias, eps = first.normalized_shape, first.weight, first.bias, first.eps
        return partial(F.layer_norm, normalized_shape=shape, weight=weight, bias=bias, eps=eps)
    return first.forward if type(first) in (nn.GELU, nn.Identity, SwiGLU, RMSNorm) else None


def _hooks(
    made: Tensor,
    make: Callable[[Tensor], Tensor],
    source: list[Tensor],
    parameters: Sequence[Tensor],
) -> saved_tensors_hooks:
    """Hooks that keep the source where autograd would keep `made` or a view of all of it."""
    outer_pack, outer_unpack = outer_hooks() or (_pack, _unpack)
    address, version, x_version = made.data_ptr(), made._version, source[0]._version
    versions = [parameter._version for parameter in parameters]
    # tensors without memory of their own have address 0
    replaceable = address != 0 and made.is_contiguous()
    kind = (made.layout, made.dtype, made.numel())

    def pack(kept: Tensor) -> tuple[torch.Size | None, Any]:
        is_made = (
            replaceable
            and (kept.layout, kept.dtype, kept.numel()) == kind
            and kept.data_ptr() == address
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
