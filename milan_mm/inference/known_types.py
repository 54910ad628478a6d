"""What a config of unknown origin may build: classes that the installed libraries have registered.

mmengine would import and call whatever a `type` names.
"""

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import mmcv.ops

from milan_mm.errors import UserError
from milan_mm.registry import DETECTION
from milan_mm.run.config_nodes import config_nodes

SCOPES = ("mmdet", "mmengine", "mmpretrain", "mmseg", "milan_mm")
_REGISTRIES = ("MODELS", "TASK_UTILS", "TRANSFORMS", "BATCH_AUGMENTS")
_NAME = re.compile(r"[A-Za-z_]\w*")


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
        if node.get("trust_remote_code"):  # of transformers, by way of mmpretrain
            raise UserError(
                f"{source}: {place}.trust_remote_code asks to run code from elsewhere: only plain "
                "values are read"
            )
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
    names |= DETECTION.keys()
    for module in (import_module(f"{scope}.registry") for scope in (*scopes, "mmengine")):
        for registry in (getattr(module, name, None) for name in _REGISTRIES):
            if registry is not None:  # one that has imported nothing yet counts as false
                registry.import_from_location()
                names |= registry.module_dict.keys()
    return names
