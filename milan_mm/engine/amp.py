"""Mixed precision with bfloat16, on GPUs and CPUs alike."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from milan_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the training forward pass, or named parts of it, under bfloat16 autocast.

    bfloat16 has float32's range, so unlike mmengine's `AmpOptimWrapper` for float16 this one needs
    no loss scaling, and it also runs where there is no GPU.

    Args:
        modules: Submodules of the model that run in bfloat16 and hand float32 tensors on, e.g.
            `['backbone', 'neck']` of a detector, whose NMS and RoIAlign know no bfloat16. None
            means the whole model.
    """

    def __init__(self, *args: Any, modules: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.modules = modules

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Adds autocast to the gradient-accumulation context of mmengine."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), ExitStack() as stack:
            if self.modules is None:
                stack.enter_context(torch.autocast(device, dtype=torch.bfloat16))
            plain_model: Any = model.module if is_model_wrapper(model) else model
            for name in self.modules or ():
                stack.enter_context(_in_bfloat16(plain_model.get_submodule(name), device))
            yield


@contextmanager
def _in_bfloat16(module: nn.Module, device: str) -> Iterator[None]:
    """While this lasts, the module computes in bfloat16 and returns float32."""
    forward: Callable = module.forward

    def autocast_forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16):
            outs = forward(*args, **kwargs)
        return _as_float32(outs)

    module.forward = autocast_forward
    try:
        yield
    finally:
        del module.forward  # uncovers the method of the class


def _as_float32(outs: Any) -> Any:
    """A tensor, or tuples and lists of them, as modules return."""
    return outs.float() if isinstance(outs, Tensor) else type(outs)(map(_as_float32, outs))
