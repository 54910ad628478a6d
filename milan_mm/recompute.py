"""Inputs of layers that the backward pass computes again instead of keeping them.

Autograd keeps what enters a linear layer. Behind a LayerNorm or an activation that is a second map
as large as the one they keep themselves, from which it is quickly made again. torch's `checkpoint`
does so for any function; this costs less for a single tensor, and a pretraining step has fifty.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

# torch asks the innermost hooks alone. Ours pass on to those around them (of a checkpoint, or of
# one who moves tensors to the CPU), which only a private function tells; without it all is kept.
_outer_hooks: Any = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)


def recompute_input(first: Callable, layer: Callable, x: Tensor) -> Tensor:
    """layer(first(x)), for whose backward pass `layer` keeps x in the place of its input.

    What else `layer` keeps stays as it is, and all of it does where torch compiles, traces or
    transforms functions, or where `first` has hooks, which would run again.

    Args:
        first: Quick, without random numbers, not in place.
        layer: Takes the output of `first`; under autocast rounded, as linear layers would round it.
        x: For memory to be saved, a tensor that is kept in any case, e.g. by `first`.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return layer(first(x))
    device = x.device.type
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if mixed else None

    def make(x: Tensor) -> Tensor:
        if not mixed:
            return first(x)
        with torch.autocast(device, dtype):  # also in the backward pass
            made = first(x)
            return made if made.dtype == torch.float64 else made.to(dtype)

    made = make(x)
    if not torch.is_grad_enabled() or has_hooks(first) or _outer_hooks is None:
        return layer(made)
    source = [x]
    with ExitStack() as stack:
        with suppress(RuntimeError):  # torch.func has no such hooks, and no addresses
            stack.enter_context(_hooks(made, make, source))
        stack.callback(source.clear)  # torch keeps the hooks, and they would keep x
        return layer(made)


def has_hooks(module: Any) -> bool:
    """Whether calling this module runs more than its `forward`."""
    return isinstance(module, nn.Module) and bool(
        module._forward_hooks or module._forward_pre_hooks
    )


def _hooks(made: Tensor, make: Callable[[Tensor], Tensor], source: list[Tensor]) -> Any:
    """Hooks that keep the source where autograd would keep this tensor or a view of all of it."""
    outer_pack, outer_unpack = _outer_hooks(True) or (_pack, _unpack)
    place, size, version = made.data_ptr(), made.numel(), made._version
    # tensors without memory of their own have address 0
    replaceable = place != 0 and made.is_contiguous()

    def pack(kept: Tensor) -> tuple[torch.Size | None, Any]:
        is_made = (kept.data_ptr(), kept.numel(), kept._version) == (place, size, version)
        if replaceable and is_made and kept.is_contiguous():
            return kept.shape, outer_pack(source[0])
        return None, outer_pack(kept)

    def unpack(packed: tuple[torch.Size | None, Any]) -> Tensor:
        shape, kept = packed[0], outer_unpack(packed[1])
        if shape is None:
            return kept
        with torch.no_grad():
            return make(kept).view(shape)

    return saved_tensors_hooks(pack, unpack)


# What autograd does without hooks. Detached, because an output that its own operation keeps would
# keep that operation alive.
def _pack(kept: Tensor) -> tuple[Tensor, int]:
    return kept.detach(), kept._version


def _unpack(packed: tuple[Tensor, int]) -> Tensor:
    kept, version = packed
    if kept._version != version:
        raise RuntimeError(
            f"a tensor {tuple(kept.shape)} that the backward pass needs was changed in place after "
            "the forward pass: change a copy, or change it after the backward pass"
        )
    return kept
