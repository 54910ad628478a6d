"""torch's own files, in today's format and in that from before torch 1.6."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

from milan_mm.weights.archive import Archive, DamagedError, is_archive, say_unchecked
from milan_mm.weights.budget import Budget
from milan_mm.weights.constructors import Constructors
from milan_mm.weights.pickles import Reader
from milan_mm.weights.plain import check_value
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
        with path.open("rb") as file:
            if _OLD_FORMAT not in file.read(32):
                raise UnpicklingError("not a file of torch")
            file.seek(0)
            if with_numbers:
                say_unchecked(path, "is in torch's old format")
            return _read_old(file, budget, with_numbers)
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
        return _read(io.BytesIO(archive.read(descriptions[0])), budget, load)


def _read(file: BinaryIO, budget: Budget, load: Callable[[Any], Storage]) -> Any:
    start = file.tell()
    value = Reader(file, Constructors(budget), load).read()
    check_value(value, _NODES_PER_BYTE * (file.tell() - start) + _SPARE_NODES)
    return value


def _read_old(file: BinaryIO, budget: Budget, with_numbers: bool) -> Any:
    """Four pickles: a magic number, a version, sizes of C's types, the content; then numbers.

    They follow each other as they are listed in a fifth pickle, each after its length.
    """
    storages: dict[str, Storage] = {}

    def load(pid: Any) -> Storage:
        key, dtype, count = described(pid, 6)
        if pid[5] is not None:
            raise UnpicklingError("views of storages, as torch 0.3 had them")
        if key not in storages:
            budget.take_array((count,), dtype.itemsize)
            storages[key] = Storage(torch.empty(count, dtype=dtype) if with_numbers else None)
        return storages[key]

    for _ in range(3):
        _read(file, budget, _no_storages)
    value = _read(file, budget, load)
    if with_numbers:
        _fill(file, _read(file, budget, _no_storages), storages)
    return value


def _fill(file: BinaryIO, keys: Any, storages: dict[str, Storage]) -> None:
    if type(keys) is not list or sorted(map(str, keys)) != sorted(storages):
        raise DamagedError("its list of storages does not fit its content")
    for key in keys:
        numbers = storages[key].numbers
        if numbers is None or file.read(8) != struct.pack("<q", len(numbers)):
            raise DamagedError(f"storage {key} has another length than its tensors say")
        content = numbers.view(torch.uint8).numpy()
        if file.readinto(content.data) != len(content):  # type: ignore[attr-defined]
            raise DamagedError(f"storage {key} is cut off")


def _no_storages(pid: Any) -> Storage:
    raise UnpicklingError("a storage in the place of a number")
