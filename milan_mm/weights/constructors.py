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
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from milan_mm.weights.budget import Budget, RefusedError
from milan_mm.weights.pickles import Function, Rules, need
from milan_mm.weights.storages import STORAGES, Storage, StorageType

# Types of torch since version 2, whose tensors are views of untyped storages.
_FLOAT8 = [f"float8_{kind}" for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")]
_NEWER = ("uint16", "uint32", "uint64", *_FLOAT8)
_DTYPES = {*STORAGES.values(), *(getattr(torch, n) for n in _NEWER if hasattr(torch, n))}
_REFUSED = {  # tensors that no plain ViT has
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_qtensor": "quantised tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors without content",
    # DTensor's, and other libraries'
    "torch._utils._rebuild_wrapper_subclass": "parts of sharded tensors",
    "torch._utils._rebuild_device_tensor_from_numpy": "tensors of a special device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "tensors of a special device",
    "torch.serialization._get_layout": "sparse tensors",
    **{f"torch.Q{name}Storage": "quantised tensors" for name in ("Int8", "UInt8", "Int32")},
}
_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|\?")
_LATIN = ("latin1", "latin-1")
_HISTORY_METHODS = ("min", "max", "current", "mean")


_CLASS = object()  # stands for classes that are an argument of others, and are not called


class Constructors(Rules):
    """The functions that one file may call.

    Args:
        budget: What it may ask for.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self.history = Function(lambda: HistoryBuffer())
        calls: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_tensor_v3": self.typed_tensor,
            "torch._utils._rebuild_parameter": self.parameter,
            "torch._utils._rebuild_parameter_with_state": self.parameter,
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
            calls[f"numpy.{core}.multiarray._reconstruct"] = self.array
            calls[f"numpy.{core}.multiarray.scalar"] = self.scalar
        self.known = {
            **{path: Function(call) for path, call in calls.items()},
            **{f"torch.{name}": StorageType(dtype) for name, dtype in STORAGES.items()},
            **{str(dtype): dtype for dtype in _DTYPES},
            "torch.storage.UntypedStorage": StorageType(torch.uint8),
            **dict.fromkeys(
                ("torch.Tensor", "torch.nn.parameter.Parameter", "numpy.ndarray"), _CLASS
            ),
            "mmengine.logging.history_buffer.HistoryBuffer": self.history,
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
        if metadata:
            raise RefusedError(
                "holds tensors that are yet to be conjugated or negated: save clones"
            )
        need(isinstance(storage, Storage) and len(size) == len(stride), "a tensor")
        numbers = storage.numbers
        if numbers is None:
            return torch.empty(0)
        need(all(type(n) is int and n >= 0 for n in (offset, *stride)), "a tensor")
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
        need(isinstance(storage, Storage) and dtype in _DTYPES, "a tensor")
        if storage.numbers is not None:
            storage = Storage(storage.numbers.view(dtype))
        return self.tensor(storage, offset, size, stride, requires_grad, hooks, metadata)

    def parameter(self, data: Any, requires_grad: bool, hooks: object, state: object = None) -> Any:
        """As `torch._utils._rebuild_parameter`."""
        need(isinstance(data, Tensor), "a parameter")
        return nn.Parameter(data.detach(), requires_grad is True)

    def tensor_of_type(self, function: Any, kind: Any, arguments: tuple, state: object) -> Tensor:
        """A tensor with attributes, as `torch._tensor._rebuild_from_type_v2`, but without them."""
        need(isinstance(function, Function), "a tensor")
        return function.call(*arguments)

    # ------------------------------------------------------------------------------ numpy
    def make_dtype(self, code: str, align: object = False, copy: object = True) -> np.dtype:
        """A dtype of numbers."""
        if type(code) is not str or not _NUMBERS.fullmatch(code):
            raise RefusedError(f"holds an array of '{str(code)[:20]}', not of numbers")
        return np.dtype(code)

    def array(self, kind: Any, shape: object, code: object) -> np.ndarray:
        """An empty array, whose content follows as its state."""
        return np.empty(0, np.uint8)

    def scalar(self, dtype: Any, content: Any) -> np.generic:
        """A number."""
        need(isinstance(dtype, np.dtype) and type(content) is bytes, "a number")
        need(len(content) == dtype.itemsize, "a number")
        return np.frombuffer(content, dtype)[0]

    # ----------------------------------------------------------------------------- plain
    def ordered(self, items: Any = ()) -> OrderedDict:
        """An OrderedDict, of pairs if there are any."""
        self._listed(items)
        need(all(type(pair) in (list, tuple) and len(pair) == 2 for pair in items), "an entry")
        return OrderedDict((self.key(key), value) for key, value in items)

    def counter(self, items: Any) -> Counter:
        """A Counter, of a dict."""
        need(type(items) is dict, "a counter")
        self.budget.take(160 * len(items))
        return Counter(items)

    def make_set(self, items: Any) -> set:
        """A set, of a list."""
        self._listed(items)
        return set(map(self.key, items))

    def make_bytes(self, text: str = "", encoding: str = "latin1") -> bytes:
        """Bytes, which protocol 2 writes as text."""
        need(type(text) is str and encoding in _LATIN, "a text of bytes")
        self.budget.take(len(text))
        return text.encode("latin1")

    def make_bytearray(self, content: Any = b"", encoding: str = "latin1") -> bytearray:
        """A bytearray of bytes or text; a length would be memory for nothing."""
        content = content if type(content) is bytes else self.make_bytes(content, encoding)
        self.budget.take(len(content))
        return bytearray(content)

    def make_complex(self, real: float, imaginary: float) -> complex:
        """A complex number."""
        need(type(real) is float and type(imaginary) is float, "a number")
        return complex(real, imaginary)

    def make_size(self, sides: Any = ()) -> torch.Size:
        """The shape of a tensor."""
        self._listed(sides)
        need(all(type(side) is int and abs(side) < 2**62 for side in sides), "a shape")
        return torch.Size(sides)

    def make_device(self, kind: Any, index: Any = None) -> torch.device:
        """The name of a device."""
        need(type(kind) is str and (index is None or type(index) is int), "a device")
        try:
            return torch.device(kind) if index is None else torch.device(kind, index)
        except RuntimeError as error:
            raise UnpicklingError(str(error)) from None

    def make_path(self, *parts: Any) -> PurePosixPath:
        """A path, which has a name and touches no disk."""
        need(all(type(part) is str for part in parts), "a path")
        return PurePosixPath(*parts)

    def history_method(self, owner: Any = None, *names: Any) -> None:
        """Stands in for getattr: mmengine pickles `HistoryBuffer.mean` by it, and nothing else."""
        if owner is not self.history or len(names) != 1 or names[0] not in _HISTORY_METHODS:
            shown = ", ".join(repr(name)[:60] for name in names)
            raise UnpicklingError(f"GLOBAL getattr({shown}) is not allowed")

    def set_state(self, value: Any, state: Any) -> None:
        """Give a value the state that a file holds for it."""
        if type(value) is np.ndarray:
            self._fill(value, state)
        elif isinstance(value, np.dtype):
            # version, byte order, and what only arrays of records have
            need(type(state) is tuple and len(state) > 1, "an array")
            if state[1] not in ("<", "|", "="):
                raise RefusedError("holds an array in the byte order of another machine")
        elif isinstance(value, HistoryBuffer):
            _set_history(value, state)
        elif isinstance(value, Namespace):
            is_plain = type(state) is dict and all(type(name) is str for name in state)
            need(is_plain, "a command line")
            vars(value).update(state)
        elif type(value) is OrderedDict:
            metadata = state.get("_metadata") if type(state) is dict else None
            if isinstance(metadata, Mapping):  # versions of modules, which `load_state_dict` reads
                value._metadata = metadata  # type: ignore[attr-defined]
        elif type(value) is not nn.Parameter:
            raise UnpicklingError(f"a state for a {type(value).__name__}")

    def _fill(self, array: np.ndarray, state: Any) -> None:
        _, shape, dtype, by_column, content = state
        need(isinstance(dtype, np.dtype) and type(content) is bytes, "an array")
        need(type(shape) is tuple and type(by_column) is bool, "an array")
        need(self.budget.take_array(shape, dtype.itemsize) == len(content), "an array")
        array.__setstate__((1, shape, dtype, by_column, content))

    def _listed(self, items: Any) -> None:
        need(type(items) in (list, tuple), "a list")
        self.budget.take(160 * len(items))


def _set_history(history: HistoryBuffer, state: Any) -> None:
    """The numbers of a log; its methods are mmengine's, whatever a file says about them."""
    need(type(state) is dict and type(state.get("max_length")) is int, "a log")
    names = ("_log_history", "_count_history")
    arrays = {name: state.get(name) for name in names}
    need(all(isinstance(a, np.ndarray) and a.ndim == 1 for a in arrays.values()), "a log")
    need(len({len(a) for a in arrays.values() if a is not None}) == 1, "a log")
    history.__setstate__(dict(max_length=state["max_length"], **arrays))
