"""Everything of a run that a checkpoint holds numbers of, and what of it is not finite."""

from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor

from milan_mm.engine.norms import is_finite, total_norm
from milan_mm.engine.unwrapping import optim_wrappers, unwrapped

_AVERAGE = "average of "


def broken_state(runner: Runner) -> list[str]:
    """Names of weights, buffers, averaged copies and optimizer states with NaN or infinity.

    Where all are finite, one number is read from the device.
    """
    tensors = _state(runner)
    if is_finite(total_norm(tensors.values())):
        return []
    # one by one, since squares of large numbers overflow
    return [name for name, tensor in tensors.items() if not is_finite(tensor)]


def broken_weight(model: nn.Module) -> str:
    """Name of the first parameter that is not finite; empty where all are."""
    for name, parameter in model.named_parameters():
        if not is_finite(parameter):
            return name
    return ""


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's state dict on the CPU; all processes must call it, where they hold shards."""
    names = model.state_dict().keys()
    tensors = _numbers(model)
    whole = {n: t.full_tensor() if isinstance(t, DTensor) else t for n, t in tensors.items()}
    return {name: tensor.detach().cpu() for name, tensor in whole.items() if name in names}


def broken_tensors(content: Any, name: str = "") -> list[str]:
    """Dotted names of the tensors with NaN or infinity in a checkpoint, or in a part of it."""
    if isinstance(content, Tensor):
        is_number = content.is_floating_point() and not content.is_meta
        return [name] if is_number and not is_finite(content) else []
    items: Any = content.items() if isinstance(content, dict) else ()
    items = enumerate(content) if isinstance(content, (list, tuple)) else items
    return [found for key, part in items for found in broken_tensors(part, f"{name}.{key}")]


def fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load a whole state dict; every process of a model that is spread has all of it."""
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        set_model_state_dict(model, dict(tensors), options=StateDictOptions(full_state_dict=True))
    else:
        model.load_state_dict(tensors)


def plain_name(name: str) -> str:
    """A name of `broken_state`; that of the model's own tensor for an averaged copy."""
    return name.removeprefix(_AVERAGE).removeprefix("module.")


def _numbers(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers; unlike a state dict, shards stay what they are."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


@torch.no_grad()
def _state(runner: Runner) -> dict[str, Tensor]:
    model = unwrapped(runner.model)
    tensors = _numbers(model)
    for hook in runner.hooks:
        copy = getattr(hook, "ema_model", None)  # mmengine's EMAHook and its like
        if isinstance(copy, nn.Module):
            tensors |= {f"{_AVERAGE}{name}": t for name, t in _numbers(copy).items()}
    names = {parameter: name for name, parameter in model.named_parameters()}
    for wrapper in optim_wrappers(runner.optim_wrapper):
        for parameter, state in wrapper.optimizer.state.items():
            for key, value in state.items():
                tensors[f"{key} of {names.get(parameter, 'a weight')}"] = value
    return {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel()
    }
