"""Random pickles that call everything a file may name, with arguments that fit and that do not."""

import copy
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from milan_mm.errors import UserError
from milan_mm.weights.budget import Budget
from milan_mm.weights.constructors import Constructors
from milan_mm.weights.reading import read_checkpoint
from tests.hostile.kinds import archive

# What this package allows, and torch itself.
NAMES = sorted(
    {*Constructors(Budget(0)).known, *torch._weights_only_unpickler._get_allowed_globals()}
)
NUMBERS = (0, 1, -1, 7, 2**31 - 1, 2**40, 2**62, 2**63 - 1, -(2**63), 2**200, 10**12)
OTHERS = (None, True, False, 1.5, float("nan"), float("inf"), "", "f8", "O", "V8", "<i4", "U10")
OTHERS += ("latin1", "cpu", "cuda:99", "meta", "a\0b", "mean", "__init__", b"", bytes(8), bytes(40))


class Raw(bytes):
    """Opcodes that leave one value."""


def named(path: str) -> Raw:
    """A class or function."""
    module, _, name = path.rpartition(".")
    return Raw(b"c%s\n%s\n" % (module.encode(), name.encode()))


def encoded(value: Any) -> bytes:
    """The opcodes of a value."""
    match value:
        case Raw():
            return value
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            size = (value.bit_length() + 8) // 8
            return b"\x8a%c" % size + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case list():
            return b"](" + b"".join(map(encoded, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(encoded, value)) + b"t"
    return b"}(" + b"".join(encoded(k) + encoded(v) for k, v in value.items()) + b"u"


def call(path: str, arguments: tuple, state: Any = (), new: bool = False) -> Raw:
    """A call by REDUCE or NEWOBJ, and BUILD where there is a state."""
    built = named(path) + encoded(arguments) + (b"\x81" if new else b"R")
    return Raw(built if state == () else built + encoded(state) + b"b")


STORAGE = Raw(encoded(("storage", named("torch.FloatStorage"), "0", "cpu", 10)) + b"Q")
_DTYPE = call("numpy.dtype", ("f8", False, True), (3, "<", None, None, None, -1, -1, 0))
_VIEW = (STORAGE, 0, (2, 5), (5, 1))
_ARRAY = "numpy._core.multiarray._reconstruct"
_EMPTY = (named("numpy.ndarray"), (0,), b"b")
_FULL = (1, (2,), _DTYPE, False, bytes(16))
_LOG = "mmengine.logging.history_buffer.HistoryBuffer"
# Calls that a file may make: name -> arguments, and the state if there is one.
FITTING: dict[str, tuple[tuple, Any]] = {
    "torch._utils._rebuild_tensor": (_VIEW, ()),
    "torch._utils._rebuild_tensor_v2": ((*_VIEW, False, None), ()),
    "torch._utils._rebuild_tensor_v3": ((*_VIEW, False, None, named("torch.float32")), ()),
    "torch._utils._rebuild_parameter": (
        (call("torch._utils._rebuild_tensor", _VIEW), True, None),
        (),
    ),
    "torch._tensor._rebuild_from_type_v2": (
        (named("torch._utils._rebuild_tensor"), named("torch.Tensor"), _VIEW, {}),
        (),
    ),
    _ARRAY: (_EMPTY, _FULL),
    "numpy._core.multiarray.scalar": ((_DTYPE, bytes(8)), ()),
    _LOG: (
        (),
        dict(
            max_length=5,
            _log_history=call(_ARRAY, _EMPTY, _FULL),
            _count_history=call(_ARRAY, _EMPTY, _FULL),
        ),
    ),
    "collections.OrderedDict": (([("a", 1)],), {"_metadata": {}}),
    "collections.Counter": (({"a": 1},), ()),
    "builtins.set": (([1, "a"],), ()),
    "builtins.bytearray": ((b"abc",), ()),
    "builtins.complex": ((1.0, 2.0), ()),
    "builtins.getattr": ((named(_LOG), "mean"), ()),
    "_codecs.encode": (("abc", "latin1"), ()),
    "torch.Size": (([1, 2],), ()),
    "torch.device": (("cuda", 0), ()),
    "argparse.Namespace": ((), {"a": 1}),
    "pathlib.PosixPath": (("a", "b"), ()),
}


def pickles(number: int, seed: int = 0) -> Iterator[bytes]:
    """Descriptions of files: half of them calls that fit but for a part, half of them anything."""
    generator = random.Random(seed)
    for i in range(number):
        value = _nearly(generator) if i % 2 else _anything(generator)
        yield b"\x80\2" + encoded(dict(state_dict=dict(a=value), meta=dict(x=value))) + b"."


def _anything(generator: random.Random, depth: int = 0) -> Any:
    kind = generator.random()
    if depth > 3 or kind < 0.4:
        return generator.choice([*NUMBERS, *OTHERS, STORAGE, named(generator.choice(NAMES))])
    parts = [_anything(generator, depth + 1) for _ in range(generator.choice((0, 1, 1, 2, 3, 5)))]
    if kind < 0.55:
        return tuple(parts)
    if kind < 0.65:
        return parts
    if kind < 0.7:
        return Raw(b"}(" + b"".join(encoded(part) * 2 for part in parts) + b"u")
    state = _anything(generator, depth + 1) if generator.random() < 0.4 else ()
    return call(generator.choice(NAMES), tuple(parts), state, generator.random() < 0.5)


def _nearly(generator: random.Random) -> Raw:
    name = generator.choice(list(FITTING))
    arguments, state = FITTING[name]
    if state != () and generator.random() < 0.6:
        state = _changed(generator, state)
    else:
        arguments = _changed(generator, arguments)
    return call(name, arguments, state, generator.random() < 0.2)


def _changed(generator: random.Random, value: Any) -> Any:
    shape = tuple(generator.choice(NUMBERS) for _ in range(generator.choice((0, 1, 2, 3, 70))))
    other = generator.choice([shape, generator.choice(NUMBERS), _anything(generator, 2)])
    if isinstance(value, dict):
        return value | {generator.choice([*value, "statistics_methods", "__class__"]): other}
    parts = list(value) or [None]
    place = generator.randrange(len(parts))
    nested = isinstance(parts[place], list | tuple) and generator.random() < 0.5
    parts[place] = _changed(generator, parts[place]) if nested else other
    return tuple(parts[: generator.choice((len(parts), len(parts), place))])


def faults(number: int, folder: Path, seed: int = 0, see: Callable[[str], None] = str) -> list[str]:
    """Read random files; what was neither refused in one line nor read as plain values.

    Args:
        see: Hears what became of each: 'read' or 'refused'.
    """
    found, path = [], folder / "fuzz.pth"
    for i, description in enumerate(pickles(number, seed)):
        path.write_bytes(archive(description, **{"data/0": bytes(40)}))
        try:
            content = read_checkpoint(path)
        except UserError as error:
            see("refused")
            if "\n" in str(error) or path.name not in str(error):
                found.append(f"{i}: {error}")
            continue
        except BaseException as error:
            found.append(f"{i}: {type(error).__name__}: {error}")
            continue
        see("read")
        try:  # whoever gets it can use it
            pickle.dumps(copy.deepcopy(content)), repr(content)
        except BaseException as error:
            found.append(f"{i}: cannot be used: {type(error).__name__}: {error}")
    return found
