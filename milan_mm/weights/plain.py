"""What a pickled checkpoint may hold in the end: plain values, which whoever reads it can walk."""

import re
from argparse import Namespace
from collections.abc import Iterable
from pathlib import PurePosixPath
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from milan_mm.weights.budget import RefusedError

_SCALARS = (str, bytes, bytearray, int, float, complex, type(None))
_LEAVES = (Tensor, np.ndarray, np.generic, np.dtype, torch.dtype, torch.device)
_PLAIN = (*_SCALARS, *_LEAVES, HistoryBuffer, PurePosixPath)
_MAX_DEPTH = 60
_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_names(names: Iterable[Any]) -> None:
    """Check that names can be printed: they stand in messages and tables.

    Raises:
        RefusedError: For one with a character that would steer the terminal, or has no UTF-8.
    """
    if any(type(name) is str and _STEERS.search(name) for name in names):
        raise RefusedError("holds a name with characters that steer a terminal: rename it")


def check_value(value: Any, nodes: int) -> None:
    """Check that whoever reads a value can walk it: its types, its depth, its size.

    A few bytes can hold a list in itself, or ten times the same list in a list, ten times ...

    Args:
        nodes: How many values there may be, those of a shared container once per place.

    Raises:
        RefusedError: When it is nested too deeply or too often.
        UnpicklingError: When it holds what is not a value.
    """
    left = nodes

    def walk(part: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise RefusedError(
                f"holds values that are nested too deeply, more than {_MAX_DEPTH} levels, or that "
                "share too much: it was made to harm, or is not a checkpoint"
            )
        if isinstance(part, _PLAIN):
            return
        if isinstance(part, (list, tuple, set)):
            for inner in part:
                walk(inner, depth + 1)
        elif isinstance(part, (dict, Namespace)):
            check_names(part if isinstance(part, dict) else vars(part))
            for inner in part.values() if isinstance(part, dict) else vars(part).values():
                walk(inner, depth + 1)
            walk(getattr(part, "_metadata", None), depth + 1)
        else:
            raise UnpicklingError("something else in the place of a value")

    walk(value, 0)
