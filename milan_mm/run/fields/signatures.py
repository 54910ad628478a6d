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

    A class that hands its `**kwargs` on to `super().__init__`, or to a class or function of its
    module, also takes what that takes.

    Returns:
        (names, open), where `open` means that others are read as well, in a way not known here.
    """
    if not inspect.isclass(target):
        own, rest = _parameters(target)
        return frozenset(own), rest is not None
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
        takers = _takers(init, rest)
        for taker in takers or ():
            known, more = arguments_of(taker)
            names |= known
            is_open |= more
        is_open |= takers is None
    return frozenset(names), is_open


def _parameters(function: Callable[..., Any]) -> tuple[set[str], str | None]:
    """Names of the arguments, and that of `**kwargs` if there is one."""
    parameters = inspect.signature(function).parameters.values()
    rest = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    return {p.name for p in parameters if p.kind in _NAMED}, rest[0] if rest else None


def _takers(init: Callable[..., Any], rest: str) -> list[Callable[..., Any]] | None:
    """The classes and functions that `**kwargs` go to, apart from the next class's `__init__`.

    Returns:
        None when they are read in another way.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return None
    handed, takers = set(), []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        values = [keyword.value for keyword in call.keywords if keyword.arg is None]
        if not any(isinstance(value, ast.Name) and value.id == rest for value in values):
            continue
        if isinstance(call.func, ast.Name) and callable(init.__globals__.get(call.func.id)):
            takers.append(init.__globals__[call.func.id])
        elif ast.unparse(call.func) != "super().__init__":
            return None
        handed |= {id(value) for value in values}
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == rest]
    return takers if uses and all(id(use) in handed for use in uses) else None
