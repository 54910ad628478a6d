"""Files of nothing but arrays: safetensors, and Flax arrays as NumPy saves them (.npz)."""

import io
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import safe_open
from torch import Tensor

from milan_mm.weights.archive import Archive
from milan_mm.weights.budget import Budget, check_list

_KINDS = "biufc"
_HEADER = 64 * 1024


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    Raises:
        RefusedError: When its list of tensors is too long.
        Exception: When it is damaged: of safetensors' own kinds.
    """
    _check_header(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    budget = Budget(path.stat().st_size)
    for tensor in tensors.values():
        budget.take_array(tensor.shape, tensor.element_size())
    return tensors, metadata


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata alone. Raises: See `read_safetensors`."""
    _check_header(path)
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of a .npz by name; compressed ones too.

    Raises:
        DamagedError, RefusedError: See `Archive`.
        UnpicklingError, ValueError: For what is not an array of numbers: arrays of Python objects
            would be pickles.
    """
    with Archive(path, Budget(path.stat().st_size)) as archive:
        return {n.removesuffix(".npy"): _read_array(archive, n) for n in archive.names}


def _read_array(archive: Archive, name: str) -> Tensor:
    content = archive.read_tensor(name, compressed=True)
    start = io.BytesIO(content[:_HEADER].numpy().tobytes())
    version = npy.read_magic(start)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_column, dtype = read_header(start)
    if dtype.kind not in _KINDS:
        raise UnpicklingError(f"'{name[:80]}' is an array of {dtype}, not of numbers")
    size, first = archive.budget.take_array(shape, dtype.itemsize), start.tell()
    if first + size != len(content):
        raise UnpicklingError(f"'{name[:80]}' has {len(content) - first} bytes, not {size}")
    flat = content[first:].numpy().view(dtype)
    array = flat.reshape(shape, order="F" if by_column else "C")
    return torch.from_numpy(np.array(array, dtype.newbyteorder("="), order="C"))


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size <= path.stat().st_size:  # else it is another kind of file
        check_list(size, "tensors")
