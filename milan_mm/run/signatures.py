"""Which arguments a registered class or function reads, by its signature."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

from mmengine.hooks import CheckpointHook

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# Hands its **kwargs to Runner.save_checkpoint, all of whose other arguments it gives itself: a
# misspelt one would end the run at the first checkpoint.
_CLOSED = {CheckpointHook: {"meta"}}


@cache
def arguments_of(target: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """The arguments of a class or function that are known by name.

    A class that hands its `**kwargs` on to `super().__init__` also takes what the next class of its
    method resolution order takes.

    Returns:
        (names, open), where `open` means that others are read as well, in a way not known here.
    """
    if not inspect.isclass(target):
        names, rest = _parameters(target)
        return frozenset(names), rest is not None
    names: set[str] = set()
    is_open = False
    for cls in target.__mro__:
        init = vars(cls).get("__init__")
        if init is None or cls is object:
            continue
        try:
            own, rest = _parameters(init)
        except (TypeError, ValueError):  # written in C
            return frozenset(names), True
        names |= own - {"self"}
        if rest is None:
            break
        if cls in _CLOSED:
            names |= _CLOSED[cls]
            break
        is_open |= not _hands_on(init, rest)
    return frozenset(names), is_open


def _parameters(function: Callable[..., Any]) -> tuple[set[str], str | None]:
    """Names of the arguments, and that of `**kwargs` if there is one."""
    parameters = inspect.signature(function).parameters.values()
    rest = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    return {p.name for p in parameters if p.kind in _NAMED}, rest[0] if rest else None


def _hands_on(init: Callable[..., Any], rest: str) -> bool:
    """Whether `**kwargs` only goes to the `__init__` of the next class."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return False
    handed = {
        id(keyword.value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__"
        for keyword in call.keywords
        if keyword.arg is None
    }
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == rest]
    return bool(uses) and all(id(use) in handed for use in uses)
