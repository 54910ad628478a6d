"""The tensors of a TorchScript archive, such as OpenAI's CLIP, without running its code.

An archive is a zip file: `data.pkl` describes the module tree, `data/N` are the raw numbers, and
`code/` is a program that is never looked at here. The description is a pickle; it is read by an
unpickler that knows nothing but tensors, containers and modules, which become plain holders of
their attributes.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from milan_mm.errors import UserError

DTYPES = {
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
}
_LIST_BUILDERS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
_MAX_DEPTH = 50


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, by the names in its zip directory."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of an archive, by their names in its `state_dict()`.

    Raises:
        UnpicklingError: When the description holds anything but modules, containers and tensors.
        zipfile.BadZipFile, KeyError, UserError: When the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        (description,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
        root = description.removesuffix("data.pkl")
        with archive.open(description) as file:
            module = _Unpickler(file, archive, root).load()
    tensors: dict[str, Tensor] = {}
    _collect(module, "", tensors, 0)
    return tensors


class _Holder:
    """Stands in for a module of the archive: its attributes, and no behaviour."""

    def __init__(self, *args: object) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module's attributes are not a dict")
        self.attributes = state


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Holder
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in _LIST_BUILDERS:
            return _build_list
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return _restore_type_tag
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage, as a flat tensor: pid is ('storage', dtype, key, device, number)."""
        kind, dtype, key, _, number = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("a storage is described wrongly")
        info = self.archive.getinfo(f"{self.root}data/{key}")
        size = number * torch.empty((), dtype=dtype).element_size()
        if info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"storage {key} has {info.file_size} bytes, not {size}")
        return torch.frombuffer(bytearray(self.archive.read(info)), dtype=dtype)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: object
) -> Tensor:
    """As torch's own, but never beyond the storage and never larger than it."""
    if not isinstance(storage, Tensor) or storage.ndim != 1 or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor is described wrongly")
    if offset < 0 or min((*size, *stride), default=0) < 0:
        raise pickle.UnpicklingError("a tensor has a negative size")
    count = 1
    last = offset
    for n, step in zip(size, stride, strict=True):
        count *= n
        last += (n - 1) * step
    if count > len(storage) or (count and last >= len(storage)):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    return torch.as_strided(storage, size, stride, offset).contiguous()


def _build_list(items: list) -> list:
    return list(items)


def _restore_type_tag(value: Any, tag: object) -> Any:
    return value


def _collect(value: Any, prefix: str, tensors: dict[str, Tensor], depth: int) -> None:
    """Walk the module tree; a name is the path of attributes."""
    if depth > _MAX_DEPTH:
        raise UserError("its modules are nested too deeply")
    if not isinstance(value, _Holder):
        return
    for name, attribute in value.attributes.items():
        if isinstance(attribute, Tensor):
            tensors[f"{prefix}{name}"] = attribute
        else:
            _collect(attribute, f"{prefix}{name}.", tensors, depth + 1)
