"""Mixed precision with bfloat16, on GPUs and CPUs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from milan_mm.engine.unwrapping import unwrapped
from milan_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the training forward pass, or named parts of it, under bfloat16 autocast.

    bfloat16 has the range of float32. So this wrapper needs no loss scaling, unlike mmengine's
    `AmpOptimWrapper` for float16, and it also runs without a GPU.

    Args:
        modules: Names of submodules that run in bfloat16 and return float32 tensors, e.g.
            `['backbone', 'neck']` of a detector, whose NMS and RoIAlign do not support bfloat16.
            None runs the whole model in bfloat16.
    """

    def __init__(self, *args: Any, modules: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.modules = modules

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Add autocast to mmengine's context of gradient accumulation."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), ExitStack() as stack:
            if self.modules is None:
                stack.enter_context(torch.autocast(device, dtype=torch.bfloat16))
            plain_model: Any = unwrapped(model)
            for name in self.modules or ():
                stack.enter_context(in_bfloat16(plain_model.get_submodule(name), device))
            yield


@contextmanager
def in_bfloat16(module: nn.Module, device: str) -> Iterator[None]:
    """Within the block, the module computes in bfloat16 and returns float32.

    Its `forward` is replaced, since forward hooks would not do: mmseg's heads call `self.forward`.
    """
    forward: Callable = module.forward
    is_own = "forward" in vars(module)  # set on the instance, not inherited from the class

    def autocast_forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16):
            outs = forward(*args, **kwargs)
        return _as_float32(outs)

    module.forward = autocast_forward
    try:
        yield
    finally:
        if is_own:
            module.forward = forward
        else:
            del module.forward


def _as_float32(outs: Any) -> Any:
    """Convert a tensor, or nested tuples and lists of tensors, which is what modules return."""
    return outs.float() if isinstance(outs, Tensor) else type(outs)(map(_as_float32, outs))
