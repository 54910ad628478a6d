"""What a pickled checkpoint may hold besides plain values, and how each of these is built.

A file names a class, and gives arguments. Here every name stands for a function of ours that checks
them: no class is called as it is, and none that takes memory or a pointer from a file. The names
are those that training checkpoints of mmengine and of the MAE family hold; numpy pickles arrays and
scalars as calls of two private functions, under the module name of its version.
"""

import math
import re
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from milan_mm.weights.budget import Budget, RefusedError
from milan_mm.weights.pickles import Function, Rules
from milan_mm.weights.storages import STORAGES, Storage, StorageType

_NEWER = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
_DTYPES = {*STORAGES.values(), *(getattr(torch, n) for n in _NEWER if hasattr(torch, n))}
_REFUSED = {  # tensors that no plain ViT has
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_qtensor": "quantised tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors without content",
    "torch._utils._rebuild_wrapper_subclass": "tensors of other libraries",
    "torch._utils._rebuild_device_tensor_from_numpy": "tensors of a special device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "tensors of a special device",
    "torch.serialization._get_layout": "sparse tensors",
    **{f"torch.Q{name}Storage": "quantised tensors" for name in ("Int8", "UInt8", "Int32")},
    "torch.distributed.tensor.DTensor": "one process's part of sharded tensors",
}
_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|\?")
_LATIN = ("latin1", "latin-1")
_SCALARS = (str, bytes, bytearray, int, float, complex, type(None))
_LEAVES = (Tensor, np.ndarray, np.generic, np.dtype, torch.dtype, torch.device)
_PLAIN = (*_SCALARS, *_LEAVES, HistoryBuffer, PurePosixPath)
_MAX_DEPTH = 60
_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HISTORY_METHODS = ("min", "max", "current", "mean")


@dataclass(frozen=True)
class Named:
    """A class that is an argument of others, and is not called."""

    name: str


class _History(Function):
    """The class of mmengine's logs, whose content follows."""


class Constructors(Rules):
    """The functions that one file may call.

    Args:
        budget: What it may ask for.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        rebuilders = {
            "_rebuild_tensor": Function(self.tensor),
            "_rebuild_tensor_v2": Function(self.tensor),
            "_rebuild_tensor_v3": Function(self.typed_tensor),
            "_rebuild_parameter": Function(self.parameter),
            "_rebuild_parameter_with_state": Function(self.parameter),
        }
        self.rebuilders = set(rebuilders.values())
        plain: dict[str, Callable[..., Any]] = {
            "torch._tensor._rebuild_from_type_v2": self.tensor_of_type,
            "torch.Size": self.make_size,
            "torch.device": self.make_device,
            "collections.OrderedDict": self.ordered,
            "collections.Counter": self.counter,
            "_codecs.encode": self.make_bytes,
            "builtins.bytes": lambda: b"",  # as protocol 2 has it
            "builtins.bytearray": self.make_bytearray,
            "builtins.set": self.make_set,
            "builtins.complex": self.make_complex,
            "builtins.getattr": self.history_method,
            "numpy.dtype": self.make_dtype,
            "argparse.Namespace": lambda: Namespace(),
            "yacs.config.CfgNode": lambda: OrderedDict(),
            "pathlib.PosixPath": self.make_path,
            "pathlib._local.PosixPath": self.make_path,
        }
        for core in ("core", "_core"):  # numpy 1 and 2
            plain[f"numpy.{core}.multiarray._reconstruct"] = self.array
            plain[f"numpy.{core}.multiarray.scalar"] = self.scalar
        self.known = {
            **{path: Function(call) for path, call in plain.items()},
            **{f"torch._utils.{name}": function for name, function in rebuilders.items()},
            **{f"torch.{name}": StorageType(dtype) for name, dtype in STORAGES.items()},
            **{str(dtype): dtype for dtype in _DTYPES},
            "torch.storage.UntypedStorage": StorageType(torch.uint8),
            "torch.Tensor": Named("torch.Tensor"),
            "torch.nn.parameter.Parameter": Named("torch.nn.Parameter"),
            "numpy.ndarray": Named("numpy.ndarray"),
            "mmengine.logging.history_buffer.HistoryBuffer": _History(lambda: HistoryBuffer()),
        }

    def find(self, path: str) -> Any:
        """See `Rules`."""
        if kind := _REFUSED.get(path):
            raise RefusedError(f"holds {kind}, which no plain ViT has: save plain tensors instead")
        return super().find(path)

    # ----------------------------------------------------------------------------- tensors
    def tensor(
        self,
        storage: Any,
        offset: int,
        size: tuple,
        stride: tuple,
        requires_grad: bool = False,
        hooks: object = None,
        metadata: object = None,
    ) -> Tensor:
        """A view of a storage, as `torch._utils._rebuild_tensor_v2`, but never beyond it."""
        if not isinstance(storage, Storage) or metadata or len(size) != len(stride):
            raise UnpicklingError("a tensor is described wrongly")
        numbers = storage.numbers
        if numbers is None:
            return torch.empty(0)
        if type(offset) is not int or not all(type(n) is int and n >= 0 for n in (offset, *stride)):
            raise UnpicklingError("a tensor is described wrongly")
        self.budget.take_array(size, numbers.element_size())
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if offset > len(numbers) or (count and last >= len(numbers)):
            raise UnpicklingError("a tensor reaches beyond its storage")
        tensor = torch.as_strided(numbers, tuple(size), tuple(stride), offset)
        return tensor.requires_grad_() if requires_grad is True else tensor

    def typed_tensor(
        self,
        storage: Any,
        offset: int,
        size: tuple,
        stride: tuple,
        requires_grad: bool,
        hooks: object,
        dtype: Any,
        metadata: object = None,
    ) -> Tensor:
        """A view of a storage of bytes, as `torch._utils._rebuild_tensor_v3`."""
        if not isinstance(storage, Storage) or dtype not in _DTYPES:
            raise UnpicklingError("a tensor is described wrongly")
        if storage.numbers is not None:
            storage = Storage(storage.numbers.view(dtype))
        return self.tensor(storage, offset, size, stride, requires_grad, hooks, metadata)

    def parameter(self, data: Any, requires_grad: bool, hooks: object, state: object = None) -> Any:
        """As `torch._utils._rebuild_parameter`."""
        if not isinstance(data, Tensor):
            raise UnpicklingError("a parameter is described wrongly")
        return nn.Parameter(data.detach(), requires_grad is True)

    def tensor_of_type(self, function: Any, kind: Any, arguments: tuple, state: object) -> Tensor:
        """A tensor with attributes, as `torch._tensor._rebuild_from_type_v2`, but without them."""
        if function not in self.rebuilders or not isinstance(kind, Named):
            raise UnpicklingError("a tensor is described wrongly")
        return function.call(*arguments)

    # ------------------------------------------------------------------------------ numpy
    def make_dtype(self, code: str, align: object = False, copy: object = True) -> np.dtype:
        """A dtype of numbers."""
        if type(code) is not str or not _NUMBERS.fullmatch(code):
            raise RefusedError(f"holds an array of '{str(code)[:20]}', not of numbers")
        return np.dtype(code)

    def array(self, kind: Any, shape: object, code: object) -> np.ndarray:
        """An empty array, whose content follows as its state."""
        if not isinstance(kind, Named):
            raise UnpicklingError("an array is described wrongly")
        return np.empty(0, np.uint8)

    def scalar(self, dtype: Any, content: Any) -> np.generic:
        """A number."""
        if not isinstance(dtype, np.dtype) or type(content) is not bytes:
            raise UnpicklingError("a number is described wrongly")
        if len(content) != dtype.itemsize:
            raise UnpicklingError("a number is described wrongly")
        return np.frombuffer(content, dtype)[0]

    # ----------------------------------------------------------------------------- plain
    def ordered(self, items: Any = ()) -> OrderedDict:
        """An OrderedDict, of pairs if there are any."""
        return OrderedDict(self._pairs(items))

    def counter(self, items: Any = ()) -> Counter:
        """A Counter, of a dict."""
        return Counter(dict(self._pairs(list(items.items()) if type(items) is dict else items)))

    def make_set(self, items: Any = ()) -> set:
        """A set, of a list."""
        self._listed(items)
        return set(map(self.key, items))

    def make_bytes(self, text: str = "", encoding: str = "latin1") -> bytes:
        """Bytes, which protocol 2 writes as text."""
        if type(text) is not str or encoding not in _LATIN:
            raise UnpicklingError("bytes are described wrongly")
        self.budget.take(len(text))
        return text.encode("latin1")

    def make_bytearray(self, content: Any = b"", encoding: str = "latin1") -> bytearray:
        """A bytearray of bytes or text; a length would be memory for nothing."""
        content = content if type(content) is bytes else self.make_bytes(content, encoding)
        self.budget.take(len(content))
        return bytearray(content)

    def make_complex(self, real: float, imaginary: float) -> complex:
        """A complex number."""
        if type(real) is not float or type(imaginary) is not float:
            raise UnpicklingError("a number is described wrongly")
        return complex(real, imaginary)

    def make_size(self, sides: Any = ()) -> torch.Size:
        """The shape of a tensor."""
        self._listed(sides)
        if not all(type(side) is int and abs(side) < 2**62 for side in sides):
            raise UnpicklingError("a shape is described wrongly")
        return torch.Size(sides)

    def make_device(self, kind: Any, index: Any = None) -> torch.device:
        """The name of a device."""
        if type(kind) is not str or not (index is None or type(index) is int):
            raise UnpicklingError("a device is described wrongly")
        try:
            return torch.device(kind) if index is None else torch.device(kind, index)
        except RuntimeError as error:
            raise UnpicklingError(str(error)) from None

    def make_path(self, *parts: Any) -> PurePosixPath:
        """A path, which has a name and touches no disk."""
        if not all(type(part) is str for part in parts):
            raise UnpicklingError("a path is described wrongly")
        return PurePosixPath(*parts)

    def history_method(self, owner: Any = None, *names: Any) -> None:
        """Stands in for getattr: mmengine pickles `HistoryBuffer.mean` by it, and nothing else."""
        if not isinstance(owner, _History) or len(names) != 1 or names[0] not in _HISTORY_METHODS:
            shown = ", ".join(repr(name)[:60] for name in names)
            raise UnpicklingError(f"GLOBAL getattr({shown}) is not allowed")

    def set_state(self, value: Any, state: Any) -> None:
        """Give a value the state that a file holds for it."""
        if type(value) is np.ndarray:
            self._fill(value, state)
        elif isinstance(value, np.dtype):
            # version, byte order, and what only arrays of records have
            if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
                raise UnpicklingError("an array of another byte order")
        elif isinstance(value, HistoryBuffer):
            _set_history(value, state)
        elif isinstance(value, Namespace):
            if type(state) is not dict or not all(type(name) is str for name in state):
                raise UnpicklingError("a command line is described wrongly")
            vars(value).update(state)
        elif type(value) is OrderedDict:
            metadata = state.get("_metadata") if type(state) is dict else None
            if isinstance(metadata, Mapping):  # versions of modules, which `load_state_dict` reads
                value._metadata = metadata  # type: ignore[attr-defined]
        elif type(value) is not nn.Parameter:
            raise UnpicklingError(f"a state for a {type(value).__name__}")

    def _fill(self, array: np.ndarray, state: Any) -> None:
        _, shape, dtype, by_column, content = state
        if not isinstance(dtype, np.dtype) or type(content) is not bytes:
            raise UnpicklingError("an array is described wrongly")
        if type(shape) is not tuple or type(by_column) is not bool:
            raise UnpicklingError("an array is described wrongly")
        if self.budget.take_array(shape, dtype.itemsize) != len(content):
            raise UnpicklingError("an array is described wrongly")
        array.__setstate__((1, shape, dtype, by_column, content))  # type: ignore[arg-type]

    def _pairs(self, items: Any) -> list:
        self._listed(items)
        if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in items):
            raise UnpicklingError("entries are described wrongly")
        return [(self.key(key), value) for key, value in items]

    def _listed(self, items: Any) -> None:
        if type(items) not in (list, tuple):
            raise UnpicklingError("members are described wrongly")
        self.budget.take(160 * len(items))


def check_names(names: Iterable[Any]) -> None:
    """Check that names can be printed: they stand in messages and tables.

    Raises:
        UnpicklingError: For one with a character that would steer the terminal.
    """
    if any(type(name) is str and _STEERS.search(name) for name in names):
        raise UnpicklingError("a name holds characters that steer a terminal")


def check_value(value: Any, nodes: int) -> None:
    """Check that whoever reads a value can walk it: its types, its depth, its size.

    A few bytes can hold a list in itself, or ten times the same list in a list, ten times ...

    Args:
        nodes: How many values there may be, those of a shared container once per place.

    Raises:
        UnpicklingError: When it cannot be walked, or holds what is not a value.
    """
    left = nodes

    def walk(part: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise UnpicklingError("its values are nested too deeply")
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


def _set_history(history: HistoryBuffer, state: Any) -> None:
    """The numbers of a log; its methods are mmengine's, whatever a file says about them."""
    if type(state) is not dict or type(state.get("max_length")) is not int:
        raise UnpicklingError("a log is described wrongly")
    names = ("_log_history", "_count_history")
    arrays = {name: state.get(name) for name in names}
    if not all(isinstance(a, np.ndarray) and a.ndim == 1 for a in arrays.values()):
        raise UnpicklingError("a log is described wrongly")
    if len({len(a) for a in arrays.values() if a is not None}) != 1:
        raise UnpicklingError("a log is described wrongly")
    history.__setstate__(dict(max_length=state["max_length"], **arrays))
