"""The text of a config, as mmengine saves it in checkpoints and logs, read without running it.

It is a Python file. Only literals and `dict(...)` of such are understood.
"""

import ast
from collections.abc import Callable
from typing import Any

from milan_mm.errors import UserError

_DAMAGED = (SyntaxError, ValueError, RecursionError, MemoryError)  # of Python's own parser


def read_config(text: str, source: str) -> dict[str, Any]:
    """The values of a config by name, all of them.

    Args:
        text: Assignments of literals and `dict(...)` calls to names, as mmengine writes them.
        source: Where it is from, for the message.

    Raises:
        UserError: For anything else, naming line and expression.
    """
    try:
        return _values(text, _refuse)
    except _NotPlainError as error:
        raise UserError(
            f"{source}: its config holds code, which is not run: {error}; take the config file of "
            "the training, with tools/test.py"
        ) from None
    except _DAMAGED as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise UserError(
            f"{source}: its config is damaged ({reason}): copy the file again"
        ) from None


def parse_config(text: str) -> dict[str, Any]:
    """The values of a config by name, None for those that are code; nothing of a damaged text."""
    try:
        return _values(text, _ignore)
    except _DAMAGED:
        return {}


class _NotPlainError(Exception):
    """Names an expression that is neither a literal nor a dict."""


def _refuse(node: ast.stmt | ast.expr) -> Any:
    raise _NotPlainError(f"line {node.lineno}, {ast.unparse(node)[:60]!r}")


def _ignore(node: ast.stmt | ast.expr) -> Any:
    return None


def _values(text: str, code: Callable[[ast.stmt | ast.expr], Any]) -> dict[str, Any]:
    """What is assigned to names; `code` hears of all other statements."""
    found = {}
    for statement in ast.parse(text).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = _value(value, code)
            case _:
                code(statement)
    return found


def _value(node: ast.expr, code: Callable[[ast.stmt | ast.expr], Any]) -> Any:
    """A value; what `code` says in the place of each expression that would have to run."""
    if isinstance(node, ast.Call):
        is_dict = isinstance(node.func, ast.Name) and node.func.id == "dict"
        # mmengine writes dict({...}) where keys are not names
        has_parts = all(isinstance(part, ast.Dict) for part in node.args[:1])
        if not is_dict or not has_parts or node.args[1:] or not all(k.arg for k in node.keywords):
            return code(node)
        parts = _value(node.args[0], code) if node.args else {}
        return (parts or {}) | {str(k.arg): _value(k.value, code) for k in node.keywords}
    if isinstance(node, ast.List):
        return [_value(item, code) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, code) for item in node.elts)
    try:
        if isinstance(node, ast.Dict):
            keys = [ast.literal_eval(key) for key in node.keys if key is not None]
            values = [_value(value, code) for value in node.values]
            return dict(zip(keys, values, strict=True))  # fewer keys where one is unpacked
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return code(node)
