"""torch's own files, in today's format and in that from before torch 1.6."""

import struct
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from milan_mm.weights.archive import Archive, DamagedError, is_archive, say_unchecked
from milan_mm.weights.budget import Budget
from milan_mm.weights.constructors import Constructors, check_value
from milan_mm.weights.pickles import Reader
from milan_mm.weights.storages import Storage, described, storages_of
from milan_mm.weights.torchscript import holds_modules, read_torchscript

# What torch's files from before version 1.6 start with, inside of a pickle.
_OLD_FORMAT = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_NODES_PER_BYTE, _SPARE_NODES = 4, 10_000


def read_torch(path: Path, with_numbers: bool = True) -> Any:
    """What `torch.save` has saved, without running code.

    Args:
        path: The file; a TorchScript archive gives the tensors of its modules.
        with_numbers: Otherwise tensors are empty, and only the rest is read from the disk.

    Raises:
        DamagedError: When it is damaged.
        RefusedError: When it asks for more memory than it may, or holds other kinds of tensors.
        UnpicklingError: When it is not such a file, or would have to run code to be read.
    """
    budget = Budget(path.stat().st_size)
    if not is_archive(path):
        return _read_old(path, budget, with_numbers)
    with Archive(path, budget) as archive:
        if holds_modules(archive):
            return read_torchscript(archive)
        descriptions = [name for name in archive.names if name.endswith("/data.pkl")]
        if len(descriptions) != 1:
            raise UnpicklingError("the archive holds no description of tensors")
        root = descriptions[0].removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.names else b""
        if order not in (b"", b"little"):
            raise UnpicklingError("its numbers are in the byte order of another machine")
        load = storages_of(archive, root, with_numbers)
        return _read(archive.read(descriptions[0]), 0, budget, load)[0]


def _read(
    content: bytes, start: int, budget: Budget, load: Callable[[Any], Storage]
) -> tuple[Any, int]:
    """A value, and where its pickle ends."""
    reader = Reader(content, Constructors(budget), load, start)
    value = reader.read()
    check_value(value, _NODES_PER_BYTE * (reader.position - start) + _SPARE_NODES)
    return value, reader.position


def _read_old(path: Path, budget: Budget, with_numbers: bool) -> Any:
    """Four pickles: a magic number, a version, sizes of C's types, the content; then numbers.

    They follow each other as they are listed in a fifth pickle, each after its length.
    """
    with path.open("rb") as file:
        if _OLD_FORMAT not in file.read(32):
            raise UnpicklingError("not a file of torch")
    say_unchecked(path, "is in torch's old format")
    budget.take(budget.size)
    content = path.read_bytes()
    storages: dict[str, tuple[Storage, int]] = {}

    def load(pid: Any) -> Storage:
        key, dtype, count = described(pid, 6)
        if pid[5] is not None:
            raise UnpicklingError("views of storages, as torch 0.3 had them")
        if key not in storages:
            size = budget.take_array((count,), dtype.itemsize)
            if sum(size for _, size in storages.values()) + size > budget.size:
                raise UnpicklingError("storages are longer than the file")
            numbers = torch.empty(count, dtype=dtype) if with_numbers else None
            storages[key] = Storage(numbers), size
        return storages[key][0]

    position = 0
    for _ in range(3):
        _, position = _read(content, position, budget, _no_storages)
    value, position = _read(content, position, budget, load)
    if with_numbers:
        keys, position = _read(content, position, budget, _no_storages)
        _fill(content, position, keys, storages)
    return value


def _fill(
    content: bytes, position: int, keys: Any, storages: dict[str, tuple[Storage, int]]
) -> None:
    if type(keys) is not list or sorted(map(str, keys)) != sorted(storages):
        raise DamagedError("its list of storages does not fit its content")
    for key in keys:
        storage, size = storages[key]
        numbers = storage.numbers
        if len(content) < position + 8 + size or numbers is None:
            raise DamagedError(f"storage {key} is cut off")
        if struct.unpack_from("<q", content, position)[0] != len(numbers):
            raise DamagedError(f"storage {key} has another length than its tensors say")
        if size:
            part = bytearray(content[position + 8 : position + 8 + size])
            numbers.copy_(torch.frombuffer(part, dtype=numbers.dtype))
        position += 8 + size


def _no_storages(pid: Any) -> Storage:
    raise UnpicklingError("a storage in the place of a number")
