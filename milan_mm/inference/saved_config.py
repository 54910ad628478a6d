"""The config that mmengine saves in a checkpoint, read without running any of it.

The text is a Python file, and building a model from it would import and call whatever a `type`
names. So the text is parsed as literals and `dict(...)`, and types must be names that the libraries
have registered.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import mmcv.ops

from milan_mm.errors import UserError
from milan_mm.run.config_nodes import config_nodes

SCOPES = ("mmdet", "mmengine", "mmpretrain", "mmseg", "milan_mm")
_REGISTRIES = ("MODELS", "TASK_UTILS", "TRANSFORMS", "BATCH_AUGMENTS")
_NAME = re.compile(r"[A-Za-z_]\w*")


def read_config(text: str, source: str) -> dict[str, Any]:
    """The values of a config file by name.

    Args:
        text: Assignments of literals and `dict(...)` calls to names, as mmengine writes them.
        source: Where it is from, for the message.

    Raises:
        UserError: For anything else, naming line and expression.
    """
    try:
        statements = ast.parse(text).body
        return {name: _value(node) for name, node in map(_assignment, statements)}
    except _NotPlainError as error:
        raise UserError(
            f"{source}: its config holds code, which is not run: {error}; take the config file of "
            "the training, with tools/test.py"
        ) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise UserError(
            f"{source}: its config is damaged ({reason}): copy the file again"
        ) from None


def check_types(part: Any, default_scope: str, source: str) -> None:
    """Check that what will be built are classes which the installed libraries have registered.

    mmengine would import anything else by its name and call it.

    Args:
        part: Of a config, e.g. its model or a pipeline, without `init_cfg`.
        default_scope: Where names without a scope are looked up.
        source: Of the config, for the message.

    Raises:
        UserError: Names the first type that is unknown, and text that looks like a call.
    """
    nodes = list(config_nodes(part))
    scopes = {default_scope} | {str(n["_scope_"]) for _, n in nodes if "_scope_" in n}
    types = [(place, node["type"]) for place, node in nodes if "type" in node]
    scopes |= {kind.partition(".")[0] for _, kind in types if isinstance(kind, str) and "." in kind}
    if foreign := sorted(scopes - {*SCOPES}):
        raise UserError(
            f"{source}: its config is of '{foreign[0]}', and only classes of {', '.join(SCOPES)} "
            "are built"
        )
    known = _registered_names(scopes)
    for place, kind in types:
        if not isinstance(kind, str) or kind.rpartition(".")[2] not in known:
            raise UserError(
                f"{source}: model or pipeline have {place}.type={str(kind)[:60]!r}, which is not "
                f"registered: from Python, import the module that registers it first"
            )
    for place, node in nodes:
        for key, value in node.items():
            # a few options of mmcv and mmdet are evaluated
            if code := next((text for text in _texts(value) if "(" in text), None):
                raise UserError(
                    f"{source}: {place}.{key} is {code[:60]!r}, which looks like code: only "
                    "plain values are read"
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _registered_names(scopes: Iterable[str]) -> set[str]:
    """Names that models and pipelines of some libraries are built from."""
    names = {name for name in dir(mmcv.ops) if _NAME.fullmatch(name)}  # by name, unregistered
    for module in (import_module(f"{scope}.registry") for scope in (*scopes, "mmengine")):
        for registry in (getattr(module, name, None) for name in _REGISTRIES):
            if registry is not None:  # one that has imported nothing yet counts as false
                registry.import_from_location()
                names |= registry.module_dict.keys()
    return names


class _NotPlainError(Exception):
    """Names an expression that is neither a literal nor a dict."""


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr]:
    if (
        isinstance(statement, ast.Assign)
        and len(statement.targets) == 1
        and isinstance(statement.targets[0], ast.Name)
    ):
        return statement.targets[0].id, statement.value
    raise _not_plain(statement)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        is_dict = isinstance(node.func, ast.Name) and node.func.id == "dict"
        # mmengine writes dict({...}) where keys are not names
        has_parts = all(isinstance(part, ast.Dict) for part in node.args[:1])
        if not is_dict or not has_parts or node.args[1:] or not all(k.arg for k in node.keywords):
            raise _not_plain(node)
        parts = _value(node.args[0]) if node.args else {}
        return parts | {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise _not_plain(node)
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): _value(value) for key, value in pairs if key is not None}
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise _not_plain(node) from None


def _not_plain(node: ast.stmt | ast.expr) -> _NotPlainError:
    return _NotPlainError(f"line {node.lineno}, {ast.unparse(node)[:60]!r}")
