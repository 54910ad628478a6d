"""A reader of pickles that can build plain values, and nothing that a caller does not list.

torch's own reader for untrusted files calls classes with whatever arguments a file gives: of its
list and of what has to be added to it, `bytearray(10**12)` fills the memory, `numpy.ndarray` takes
a pointer, and a tuple in a tuple in a tuple ... as the key of a dict overflows the stack. Here a
file names functions of a written list, each of which checks its arguments, and all that it builds
is counted before it is there.
"""

import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pickle import UnpicklingError, decode_long
from typing import Any, BinaryIO

from milan_mm.weights.budget import Budget, RefusedError

# What objects take in memory, in bytes and rounded up: each, and per entry or reference.
_OBJECT, _CONTAINER, _ENTRY, _REFERENCE = 64, 256, 160, 16
_MAX_INT_KEY = 2**40
_MAX_OTHER_KEYS = 10_000  # neither text nor small numbers: keys that a file could make collide
_MARK = object()


def need(is_so: bool, what: str) -> None:
    """Check what a file says about something.

    Raises:
        UnpicklingError: When it cannot be.
    """
    if not is_so:
        raise UnpicklingError(f"{what} is described wrongly")


class Function:
    """A function that a file may call, by REDUCE, NEWOBJ or both.

    Args:
        call: Takes the arguments of the file, unchecked. ValueError and TypeError refuse them.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Rules:
    """What one file may build.

    Args:
        budget: What it may ask for.
    """

    known: Mapping[str, Any]  # 'module.name' -> a `Function`, or a value such as a dtype

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._other_keys = 0

    def find(self, path: str) -> Any:
        """What a name stands for; None for a name that is not listed."""
        return self.known.get(path)

    def set_state(self, value: Any, state: Any) -> None:
        """Give a value its state, both unchecked. ValueError and TypeError refuse them."""
        raise UnpicklingError(f"a state for a {type(value).__name__}")

    def key(self, key: Any, inner: bool = False) -> Any:
        """A key that a dict may have: text, a number, or a flat tuple of such.

        Raises:
            UnpicklingError: For any other.
            RefusedError: For more numbers and tuples than a file may have as keys.
        """
        if type(key) is str or (type(key) is int and abs(key) < _MAX_INT_KEY and not inner):
            return key
        self._other_keys += 1
        if self._other_keys > _MAX_OTHER_KEYS:
            raise RefusedError(
                f"has more than {_MAX_OTHER_KEYS:,} keys that are neither text nor small integers: "
                "save lists instead"
            )
        if key is None or type(key) in (int, float, bool, bytes):
            return key
        if type(key) is tuple and not inner:
            return tuple(self.key(part, inner=True) for part in key)
        raise UnpicklingError(f"a {type(key).__name__} as a key")


class Reader:
    """Reads one pickle after the other.

    Args:
        file: Of the pickles.
        rules: What they may build.
        load: Takes the persistent id of a storage, unchecked.
    """

    def __init__(self, file: BinaryIO, rules: Rules, load: Callable[[Any], Any]) -> None:
        self.file, self.rules, self.load, self.budget = file, rules, load, rules.budget

    def read(self) -> Any:
        """The next value.

        Raises:
            UnpicklingError: When the file is damaged, or asks for what is not listed.
            RefusedError: When it asks for too much.
        """
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        try:
            while (code := self._bytes(1)[0]) != ord("."):
                if code not in _CODES:
                    raise UnpicklingError(f"unsupported opcode {code}")
                _CODES[code](self)
            return self._pop()
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error) as error:
            raise UnpicklingError(f"pickle is damaged: {error}") from None

    # ------------------------------------------------------------------------------ bytes
    def _bytes(self, number: int) -> bytes:
        # a file object takes the memory that it is asked for before it looks what is left
        part = self.file.read(number) if number <= self.budget.size else b""
        if len(part) < number:
            raise UnpicklingError("pickle is cut off")
        return part

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _line(self) -> str:
        line = self.file.readline(1000)
        if not line.endswith(b"\n"):
            raise UnpicklingError("a name is too long")
        return line[:-1].decode()

    # ------------------------------------------------------------------------------ stack
    def _push(self, value: Any, cost: int = _OBJECT) -> None:
        self.budget.take(cost)
        self.stack.append(value)

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise UnpicklingError("a mark is in the place of a value")
        return value

    def _to_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise UnpicklingError("a mark is missing")

    def _text(self, size: int) -> None:
        text = self._bytes(size).decode(errors="surrogatepass")  # as names of files may need it
        self._push(text, sys.getsizeof(text))

    def _raw(self, size: int) -> None:
        raw = self._bytes(size)
        self._push(raw, sys.getsizeof(raw))

    def _mutable(self, size: int) -> None:
        raw = bytearray(self._bytes(size))
        self._push(raw, sys.getsizeof(raw))

    def _tuple(self, number: int) -> None:
        items = [self._pop() for _ in range(number)][::-1]
        self._push(tuple(items), _OBJECT + _REFERENCE * number)

    def _marked_tuple(self) -> None:
        items = self._to_mark()
        self._push(tuple(items), _OBJECT + _REFERENCE * len(items))

    def _append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise UnpicklingError("items for something that is not a list")
        self.budget.take(_REFERENCE * len(items))
        target.extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict, Counter) or len(items) % 2:
            raise UnpicklingError("entries for something that is not a dict")
        self.budget.take(_ENTRY * len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.rules.key(key)] = value

    def _add(self) -> None:
        items = self._to_mark()
        if type(self.stack[-1]) is not set:
            raise UnpicklingError("members for something that is not a set")
        self.budget.take(_ENTRY * len(items))
        self.stack[-1].update(self.rules.key(item) for item in items)

    # ------------------------------------------------------------------------------ memo
    def _remember(self, place: int) -> None:
        self.budget.take(_ENTRY)
        if not self.stack or self.stack[-1] is _MARK:
            raise UnpicklingError("nothing to remember")
        self.memo[place] = self.stack[-1]

    # ------------------------------------------------------------------------------ calls
    def _global(self, module: str, name: str) -> None:
        module = "builtins" if module == "__builtin__" else module  # as protocol 2 writes it
        path = f"{module}.{name}"
        found = self.rules.find(path)
        if found is None:
            raise UnpicklingError(f"GLOBAL {path.removeprefix('builtins.')} is not allowed")
        self._push(found)

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise UnpicklingError("a name that is not text")
        self._global(module, name)

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Function) or type(arguments) is not tuple:
            raise UnpicklingError("a call of something that is not a function")
        self._push(function.call(*arguments), _CONTAINER)

    def _build(self) -> None:
        state = self._pop()
        self.rules.set_state(self.stack[-1], state)

    def _skip(self, number: int) -> None:
        self._bytes(number)

    def _persistent(self) -> None:
        self._push(self.load(self._pop()))


# The opcodes of protocols 2 to 5 that torch.save and TorchScript write.
_CODES: dict[int, Callable[[Reader], None]] = {
    ord(code): act
    for code, act in {
        "\x80": lambda r: r._skip(1),  # PROTO
        "\x95": lambda r: r._skip(8),  # FRAME
        "N": lambda r: r._push(None),
        "\x88": lambda r: r._push(True),
        "\x89": lambda r: r._push(False),
        "K": lambda r: r._push(r._number("<B")),
        "M": lambda r: r._push(r._number("<H")),
        "J": lambda r: r._push(r._number("<i")),
        "\x8a": lambda r: r._push(decode_long(r._bytes(r._number("<B"))), 256 + _OBJECT),  # LONG1
        "G": lambda r: r._push(r._number(">d")),
        "X": lambda r: r._text(r._number("<I")),
        "\x8c": lambda r: r._text(r._number("<B")),
        "\x8d": lambda r: r._text(r._number("<Q")),
        "U": lambda r: r._text(r._number("<B")),  # SHORT_BINSTRING, in what Python 2 wrote
        "B": lambda r: r._raw(r._number("<I")),
        "C": lambda r: r._raw(r._number("<B")),
        "\x8e": lambda r: r._raw(r._number("<Q")),
        "\x96": lambda r: r._mutable(r._number("<Q")),  # BYTEARRAY8
        ")": lambda r: r._push(()),
        "\x85": lambda r: r._tuple(1),
        "\x86": lambda r: r._tuple(2),
        "\x87": lambda r: r._tuple(3),
        "t": lambda r: r._marked_tuple(),
        "]": lambda r: r._push([], _CONTAINER),
        "}": lambda r: r._push({}, _CONTAINER),
        "\x8f": lambda r: r._push(set(), _CONTAINER),
        "(": lambda r: r._push(_MARK),
        "a": lambda r: r._append([r._pop()]),
        "e": lambda r: r._append(r._to_mark()),
        "s": lambda r: r._set([r._pop(), r._pop()][::-1]),
        "u": lambda r: r._set(r._to_mark()),
        "\x90": lambda r: r._add(),
        "q": lambda r: r._remember(r._number("<B")),
        "r": lambda r: r._remember(r._number("<I")),
        "\x94": lambda r: r._remember(len(r.memo)),
        "h": lambda r: r._push(r.memo[r._number("<B")]),
        "j": lambda r: r._push(r.memo[r._number("<I")]),
        "c": lambda r: r._global(r._line(), r._line()),
        "\x93": lambda r: r._stack_global(),
        "R": lambda r: r._call(),
        "\x81": lambda r: r._call(),  # NEWOBJ: what is allowed makes no difference between them
        "b": lambda r: r._build(),
        "Q": lambda r: r._persistent(),
    }.items()
}
