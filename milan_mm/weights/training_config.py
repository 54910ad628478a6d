"""Facts about an encoder from the config in a training checkpoint of this package.

mmengine stores the config as the text of a Python file. It is parsed here and never executed; only
literals and `dict(...)` are understood.
"""

import ast
from collections.abc import Mapping
from typing import Any

from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.hub import HubFacts
from milan_mm.weights.statistics import stats_name


def training_facts(checkpoint: Mapping[str, Any]) -> HubFacts:
    """Options of the encoder that the tensors do not show, as the training had them.

    Args:
        checkpoint: See `read_checkpoint`.

    Returns:
        Nothing known for files without a config, or of another model than `PlainViT`.
    """
    meta = checkpoint.get("meta")
    text = meta.get("cfg") if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return HubFacts()
    values = _assignments(text)
    model = values.get("model")
    if not isinstance(model, dict):
        return HubFacts()
    backbone = model.get("backbone")
    if not isinstance(backbone, dict) or backbone.get("type") != "milan_mm.PlainViT":
        return HubFacts()
    arch = backbone.get("arch")
    arch = ARCHS.get(arch) if isinstance(arch, str) else arch
    preprocessor = model.get("data_preprocessor") or values.get("data_preprocessor")
    return HubFacts(
        num_heads=_of_type(int, arch.get("num_heads")) if isinstance(arch, dict) else None,
        patch_size=_of_type(int, backbone.get("patch_size", 16)),
        norm_eps=_of_type(float, backbone.get("norm_eps", 1e-6)),
        act=_of_type(str, backbone.get("act", "GELU")),
        rope_base=_of_type(float, backbone.get("rope_base")),
        pos_resize=_of_type(str, backbone.get("pos_resize")),
        stats=_stats(preprocessor),
    )


def _of_type(kind: type, value: Any) -> Any:
    """The value where it is of a kind, an integer being a float as well; else None."""
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else None


def _stats(preprocessor: Any) -> str | None:
    if not isinstance(preprocessor, dict) or not {"mean", "std"} <= preprocessor.keys():
        return None
    by_channel = [preprocessor["mean"], preprocessor["std"]]
    if not all(isinstance(values, list | tuple) for values in by_channel):
        return None
    if not preprocessor.get("to_rgb", preprocessor.get("bgr_to_rgb", False)):
        by_channel = [list(values)[::-1] for values in by_channel]
    try:
        mean, std = ([value / 255 for value in values] for values in by_channel)
    except TypeError:
        return None
    return stats_name(mean, std)


def _assignments(text: str) -> dict[str, Any]:
    """Top-level names of a config and their values, as far as these are plain."""
    try:
        values = {}
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                values[statement.targets[0].id] = _plain(statement.value)
        return values
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _plain(node: ast.expr) -> Any:
    """A literal or a `dict(...)` of such; None for anything else."""
    if isinstance(node, ast.Call):
        is_dict = isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
        return {k.arg: _plain(k.value) for k in node.keywords if k.arg} if is_dict else None
    if isinstance(node, ast.Dict):
        return {
            key.value: _plain(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
