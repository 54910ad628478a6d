"""What is inside of mmengine's wrappers: the model, and each optimizer's own wrapper."""

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn


def unwrapped(model: nn.Module) -> Any:
    """The model itself, whether or not DDP or the like wraps it."""
    return model.module if is_model_wrapper(model) else model


def optim_wrappers(wrapper: OptimWrapper) -> list[Any]:
    """Those of a run: one, but for models with several optimizers."""
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
