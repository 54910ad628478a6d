"""The tensors of a TorchScript archive, such as OpenAI's CLIP, without running its code.

An archive is a zip file: `data.pkl` describes the module tree, `data/N` are the raw numbers, and
`code/` is a program that is never looked at here. Modules become plain holders of their attributes.
"""

import io
from pathlib import Path
from typing import Any

from torch import Tensor

from milan_mm.weights.archive import Archive, is_archive
from milan_mm.weights.budget import Budget, RefusedError
from milan_mm.weights.constructors import Constructors
from milan_mm.weights.pickles import Function, Reader, need
from milan_mm.weights.storages import storages_of

_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
_JIT = "torch.jit._pickle."
_MAX_DEPTH, _MAX_TENSORS = 50, 100_000


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not is_archive(path):
        return False
    with Archive(path, Budget(path.stat().st_size)) as archive:
        return holds_modules(archive)


def holds_modules(archive: Archive) -> bool:
    """Whether an archive is one of TorchScript, by the names of its records."""
    return any(name.endswith("/constants.pkl") for name in archive.names)


def read_torchscript(archive: Archive) -> dict[str, Tensor]:
    """The parameters and buffers of an archive, by their names in its `state_dict()`.

    Raises:
        UnpicklingError: When the description holds anything but modules, containers and tensors.
        DamagedError, RefusedError: See `Archive`.
    """
    (description,) = (name for name in archive.names if name.endswith("/data.pkl"))
    root = description.removesuffix("data.pkl")
    load = storages_of(archive, root, with_numbers=True)
    pickle = io.BytesIO(archive.read(description))
    module = Reader(pickle, _Modules(archive.budget), load).read()
    tensors: dict[str, Tensor] = {}
    _collect(module, "", tensors, 0)
    return tensors


class _Holder:
    """Stands in for a module of the archive: its attributes, and no behaviour."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}


class _Modules(Constructors):
    """Also builds modules, and the lists of TorchScript."""

    def find(self, path: str) -> Any:
        if path.startswith("__torch__."):
            return Function(_Holder)
        if path.startswith(_JIT) and path.removeprefix(_JIT) in _LISTS:
            return Function(self.listed)
        if path == f"{_JIT}restore_type_tag":
            return Function(lambda value, tag: value)
        return super().find(path)

    def listed(self, items: Any) -> list:
        """A list of TorchScript, from a list."""
        need(type(items) in (list, tuple), "a list")
        self.budget.take(16 * len(items))
        return list(items)

    def set_state(self, value: Any, state: Any) -> None:
        if not isinstance(value, _Holder):
            super().set_state(value, state)
        else:
            need(type(state) is dict and all(type(name) is str for name in state), "a module")
            value.attributes = state


def _collect(value: Any, prefix: str, tensors: dict[str, Tensor], depth: int) -> None:
    """Walk the module tree; a name is the path of attributes."""
    if depth > _MAX_DEPTH or len(tensors) > _MAX_TENSORS:
        raise RefusedError("has modules that are nested too deeply")
    if not isinstance(value, _Holder):
        return
    for name, attribute in value.attributes.items():
        if isinstance(attribute, Tensor):
            tensors[f"{prefix}{name}"] = attribute
        else:
            _collect(attribute, f"{prefix}{name}.", tensors, depth + 1)
