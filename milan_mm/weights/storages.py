"""Storages: the numbers in a file of torch, which its tensors are views of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from milan_mm.weights.archive import Archive
from milan_mm.weights.pickles import need

# Of the storages that files from before torch 2 and after name; `UntypedStorage` holds bytes.
STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


class Storage:
    """The numbers that tensors of a file are views of.

    Args:
        numbers: (N,), of the storage's dtype; of an untyped one uint8; None where only the shapes
            are wanted.
    """

    def __init__(self, numbers: Tensor | None) -> None:
        self.numbers = numbers


@dataclass(frozen=True)
class StorageType:
    """The class of a storage, as a file names it; an untyped one is of bytes."""

    dtype: torch.dtype


def described(pid: Any, parts: int) -> tuple[str, torch.dtype, int]:
    """Name, dtype and length of a storage, from ('storage', type, name, device, length, ...).

    Raises:
        UnpicklingError: When it is described in another way.
    """
    need(type(pid) is tuple and len(pid) == parts, "a storage")
    kind, storage_type, key, _, count = pid[:5]
    need(kind == "storage" and isinstance(storage_type, StorageType), "a storage")
    need(type(key) is str and type(count) is int and count >= 0, "a storage")
    return key, storage_type.dtype, count


def storages_of(archive: Archive, root: str, with_numbers: bool) -> Callable[[Any], Storage]:
    """What finds the storages of an archive, from their descriptions.

    Args:
        root: What stands before the names of its records.
        with_numbers: Otherwise nothing is read.
    """
    found: dict[str, Storage] = {}

    def load(pid: Any) -> Storage:
        key, dtype, count = described(pid, 5)
        if key not in found:
            name, size = f"{root}data/{key}", count * dtype.itemsize
            need(archive.size(name) == size, f"storage {key[:20]}")
            numbers = archive.read_tensor(name).view(dtype) if with_numbers else None
            found[key] = Storage(numbers)
        return found[key]

    return load
