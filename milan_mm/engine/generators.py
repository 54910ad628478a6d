"""The states of the random generators that a training step draws from."""

import random
from typing import Any

import numpy as np
import torch


def generator_states() -> dict[str, Any]:
    """Those of Python, numpy, torch's CPU and the current GPU, as plain types and tensors.

    Takes some 50 us, and never waits for the GPU.
    """
    numpy: Any = np.random.get_state()  # noqa: NPY002 (what mmcv uses)
    kind, keys, *rest = numpy
    states = dict(
        python=random.getstate(),
        numpy=(kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_generators(states: dict[str, Any]) -> None:
    """Put back what `generator_states` returned; that of a GPU only where there is one.

    Raises:
        ValueError, TypeError, RuntimeError: For states that are not of such generators.
    """
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
