"""A recipe as the values that decide its numbers, and their hash: two runs are compared by them.

Left out is what belongs to a machine: paths of data, workers, the split of a batch among processes.
"""

import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config

from milan_mm.run.config_nodes import config_nodes, datasets_of, views_of_test

# Options of `read_encoder` that choose among the encoders of one file.
CHOICES = ("layout", "student")
DIGITS = 16  # of a shown hash: enough for any number of recipes
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# All that mmengine's Runner takes and that can change a number; what it logs and saves is left out.
_SECTIONS = (
    "default_scope",
    "model",
    "tta_model",
    "data_preprocessor",
    *_LOADERS,
    "val_evaluator",
    "test_evaluator",
    "optim_wrapper",
    "param_scheduler",
    "total_batch",
    "train_cfg",
    "val_cfg",
    "test_cfg",
    "custom_hooks",
    "randomness",
)
# Of a data loader, and what splits one step among processes and saves memory.
OF_THE_MACHINE = (
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "pin_memory_device",
    "multiprocessing_context",
    "non_blocking",
    "prefetch_factor",
    "timeout",
    "accumulative_counts",
    "with_cp",
)
# That dicts of our recipes name, and those of recipes that inherit from them.
_WRITTEN_SCOPES = ("milan_mm", "mmpretrain")
# Hooks of this package that watch a run, or change its rounding alone; all others count.
HARMLESS_HOOKS = (
    "LossHook",
    "UnreadableImagesHook",
    "LoadingTimeHook",
    "SpeedHook",
    "GradientNormHook",
    "FiniteHook",
    "CheckpointHook",
    "HistoryHook",
    "PicturesHook",
    "KnnHook",
    "TrackerHook",
    "CompileHook",
    "ClassCountsHook",
    "UpdateSchedulerHook",
    "ClassCountsHook",  # the loss that asks for them is in the recipe
)
# Names of distributions: the forks, or what they forked.
_PACKAGES = (
    "milan_mm",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    *(f"{prefix}{name}" for name in ("mmengine", "mmcv") for prefix in ("", "onedl-")),
    *("mmpretrain", "onedl-mmpretrain", "mmdet", "onedl-mmdetection"),
    *("mmsegmentation", "onedl-mmsegmentation", "faster-coco-eval"),
)


def settings_hash(settings: object) -> str:
    """Hash of nested settings; the order of keys and list or tuple make no difference."""
    text = json.dumps(settings, sort_keys=True, default=repr, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def config_hash(cfg: Config) -> str:
    """Hash of everything in a recipe that can change its numbers, but the seed and the weights.

    Left out are paths of this machine (data roots; of other absolute paths only the name stays),
    the work directory, workers of data loaders, the split of a batch among processes, and logging.

    Args:
        cfg: Not yet fitted to the machine.
    """
    return settings_hash(canonical_settings(cfg))


@cache
def package_versions() -> dict[str, str]:
    """Versions of the installed packages that make the numbers, by name of distribution."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def canonical_settings(cfg: Config) -> dict[str, Any]:
    """The sections of a recipe that matter, without what belongs to the machine."""
    content = cfg.to_dict()
    if not content.get("test_evaluator"):  # what an inferencer reads: nothing is judged by it
        content = {k: v for k, v in content.items() if not k.startswith("test_")}
    if views := views_of_test(content):
        for _, dataset in datasets_of(content, "test_dataloader"):
            dataset["pipeline"] = views
    found = [node.get("data_root") for _, node in config_nodes(content)]
    roots = {root.rstrip("/") for root in found if isinstance(root, str)} - {""}
    longest_first = sorted(roots, key=len, reverse=True)
    scope = content.get("default_scope")
    recipe = {n: _clean(content[n], longest_first, scope) for n in _SECTIONS if n in content}
    if "total_batch" in recipe:  # else the loader's batch is all that says it
        recipe.get("train_dataloader", {}).pop("batch_size", None)
    for name in _LOADERS[1:]:
        recipe.get(name, {}).pop("batch_size", None)
    backbone = recipe.get("model", {}).get("backbone")
    if isinstance(backbone, dict):
        init_cfg = backbone.pop("init_cfg", None) or {}
        # which of a file's encoders: its checksum does not show
        chosen = {key: init_cfg[key] for key in CHOICES if init_cfg.get(key)}
        backbone |= dict(init_cfg=chosen) if chosen else {}
    for key in ("seed", "deterministic"):
        recipe.get("randomness", {}).pop(key, None)
    recipe["custom_hooks"] = [
        hook
        for hook in recipe.get("custom_hooks") or []
        if str(hook.get("type")).rpartition(".")[2] not in HARMLESS_HOOKS
    ]
    return recipe


def _plainly_named(node: dict, scope: str | None) -> dict:
    """A dict of a config as earlier versions spelled it, whose hashes so stay what they were.

    Args:
        scope: The recipe's default scope, which a type need not name.
    """
    node = dict(node)
    if node.get("_scope_") == "milan_mm" and node.get("type") == "LoadImageFromFile":
        node["type"] = "milan_mm.LoadImage"
    # RandomResize builds a Resize, and so names the scope of its recipe
    if node.get("_scope_") in _WRITTEN_SCOPES or node.get("type") == "RandomResize":
        node.pop("_scope_", None)
    if isinstance(kind := node.get("type"), str):
        node["type"] = kind.removeprefix(f"{scope}.")
    return node


def _clean(node: object, roots: list[str], scope: str | None) -> Any:
    """Drop keys of the machine, and make paths relative to the data."""
    if isinstance(node, dict):
        return {
            str(key): _clean(value, roots, scope)
            for key, value in _plainly_named(node, scope).items()
            if key not in OF_THE_MACHINE and key != "data_root"
        }
    if isinstance(node, (list, tuple)):
        return [_clean(value, roots, scope) for value in node]
    if isinstance(node, (str, Path)):
        text = str(node)
        for root in roots:
            if text.startswith(f"{root}/"):
                return text.removeprefix(root).lstrip("/")
        return Path(text).name if text.startswith("/") else text
    if isinstance(node, type):
        return f"{node.__module__}.{node.__qualname__}"
    return node
