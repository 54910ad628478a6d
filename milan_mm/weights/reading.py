"""Reading weight files of others without running code that may be hidden in them."""

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from numpy._core import multiarray
from safetensors import safe_open

_HISTORY_METHODS = ("min", "max", "current", "mean")


def read_checkpoint(path: str | Path) -> dict:
    """Read a weights file or a training checkpoint on the CPU.

    Torch files are read with `weights_only=True` and a written list of the harmless classes that
    training checkpoints of mmengine and of the MAE family hold; there is no fallback to full
    unpickling.

    Args:
        path: A safetensors file, or a torch file (.pth, .pt, .bin ...).

    Returns:
        The file's top-level dict: tensors by name, or e.g. `state_dict`, `meta`, `optimizer`.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is damaged, holds no dict, or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file '{path}' does not exist")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                checkpoint = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            with torch.serialization.safe_globals(_safe_globals()):
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can lead the decoders to any kind of error
        raise ValueError(f"weights file '{path}' {_reason(error)}") from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f"weights file '{path}' holds a {type(checkpoint).__name__}, not a dict")
    return checkpoint


def _safe_globals() -> list:
    """What training checkpoints hold besides tensors.

    mmengine pickles log buffers with numpy arrays inside them; the MAE family pickles its command
    line, which may name folders.
    """
    cores = ("core", "_core")  # numpy 1 and 2
    dtypes = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u4", "u1", "?")]
    return [
        HistoryBuffer,
        (_history_method, "builtins.getattr"),
        *((multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in cores),
        *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in cores),
        np.ndarray,
        np.dtype,
        *dtypes,
        Namespace,  # `args` in the checkpoints of MAE, DINO, SLIP ...: names and values
        (PurePosixPath, "pathlib.PosixPath"),  # stands in: it has a name but touches no disk
    ]


def _history_method(owner: type, name: str) -> Callable:
    """Stands in for getattr: mmengine pickles `HistoryBuffer.mean` by it, and nothing else."""
    if owner is not HistoryBuffer or name not in _HISTORY_METHODS:
        raise UnpicklingError(f"GLOBAL getattr({owner}, {name}) is not allowed")
    return getattr(HistoryBuffer, name)


def _reason(error: Exception) -> str:
    """What is wrong with a file, in one line and without torch's advice to unpickle it fully."""
    text = str(error)
    if unsafe := re.search(r"GLOBAL (\S+)", text):
        return (
            f"holds Python objects that would have to be executed: {unsafe[1]}; convert it to "
            "safetensors where you trust it"
        )
    if "TorchScript" in text:
        return (
            "is a TorchScript archive, which holds code: save its state_dict() as safetensors "
            "where you trust it; for OpenAI's CLIP, give the tag 'openai' instead of the file"
        )
    if isinstance(error, UnpicklingError) or not text.strip():
        return "is damaged or no weights file: copy or download it again"
    return f"is damaged or of an unknown format: {text.strip().splitlines()[0][:200]}"
