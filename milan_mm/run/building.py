"""Building the model of a config without its weights: no memory, no download, no data."""

import copy

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.optim import Optimizer

from milan_mm.errors import UserError
from milan_mm.registry import MODELS
from milan_mm.run.config_nodes import is_read_from_disk, teachers


def build_without_memory(cfg: Config) -> nn.Module:
    """The model of a config at full size on the meta device; no weights are read.

    A model of another library that computes with values while it is built, which has none on the
    meta device, is built on the CPU instead.

    Raises:
        UserError: When the config has no model, or its parts contradict each other.
    """
    if "model" not in cfg:
        raise UserError(f"{cfg.filename} has no model: it is not a training config")
    model = copy.deepcopy(cfg.model)
    for teacher in teachers(model):
        if "type" not in teacher or not is_read_from_disk(teacher):
            teacher.pretrained = "random"
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        try:
            with torch.device("meta"):
                return MODELS.build(model)
        except RuntimeError:
            return MODELS.build(model)


def build_optimizer(cfg: Config, model: nn.Module) -> Optimizer:
    """The optimizer that training would build for `model`, by the same constructor.

    Raises:
        UserError: When the config has no optimizer, or its rules do not fit the model.
    """
    if "optimizer" not in cfg.get("optim_wrapper", {}):
        raise UserError(
            f"{cfg.filename} has no optim_wrapper.optimizer: it is not a training config"
        )
    # precision and accumulation change no group, and mmengine's AMP wrapper wants a GPU
    kept = ("optimizer", "constructor", "paramwise_cfg")
    wrapper = {key: value for key, value in cfg.optim_wrapper.items() if key in kept}
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        return build_optim_wrapper(model, dict(wrapper, type="OptimWrapper")).optimizer
