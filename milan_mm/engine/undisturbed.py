"""Looking at a model in the middle of its training without changing what the training does."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode and has no gradients; then all is as before.

    As before are the mode of each module and the state of the generators of Python, numpy and
    torch, from which data loaders and augmentations draw.
    """
    modes = [(module, module.training) for module in model.modules()]
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (what mmcv uses)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        for module, training in modes:
            module.training = training
