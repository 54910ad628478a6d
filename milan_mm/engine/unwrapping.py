"""The model inside of what distributed training wraps around it."""

from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> Any:
    """The model itself, whether or not DDP or the like wraps it."""
    return model.module if is_model_wrapper(model) else model
