"""What a result belongs to: weights, recipe, protocol, packages, code and data.

Two numbers may be compared when their protocol hashes and data counts are equal. Hashes are taken
of the recipe as written, before it is fitted to a machine: the same recipe on 1 or 64 GPUs, in
bfloat16 or float32, has one hash; precision is a key of its own in the row.
"""

import hashlib
import json
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

import milan_mm
from milan_mm.models.vit_options import WEIGHT_OPTIONS
from milan_mm.run.config_nodes import config_nodes, datasets_of

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
# Hooks of this package that watch a run, or change its rounding alone; all others count.
HARMLESS_HOOKS = (
    "LossHook",
    "UnreadableImagesHook",
    "LoadingTimeHook",
    "CompileHook",
    "UpdateSchedulerHook",
)
# Options of `PlainViT` that come with the weights; all others belong to the task.
OF_THE_ENCODER = (
    "type",
    "arch",
    "img_size",
    "patch_size",
    "with_cls_token",
    "final_norm",
    "fixed_pos_embed",
    "init_cfg",
    *WEIGHT_OPTIONS,
)
_STATISTICS = ("mean", "std")  # what the encoder was pretrained with
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
    return settings_hash(_canonical(cfg))


def protocol_hash(cfg: Config) -> str:
    """Hash of what two runs must share to be comparable.

    That is the recipe of `config_hash` without the encoder: its architecture, its initial weights
    and its image statistics may differ. Drop path, windows, frozen or not, and which blocks and
    tokens are used belong to the task.

    Args:
        cfg: Not yet fitted to the machine.
    """
    recipe = _canonical(cfg)
    model = recipe.get("model", {})
    if isinstance(model, dict):
        backbone = model.pop("backbone", {})
        model["backbone"] = {k: v for k, v in backbone.items() if k not in OF_THE_ENCODER}
    for preprocessor in (model.get("data_preprocessor"), recipe.get("data_preprocessor")):
        for key in _STATISTICS:
            (preprocessor or {}).pop(key, None)
    return settings_hash(recipe)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that make the numbers, by name of distribution."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(package: str | Path | None = None) -> str | None:
    """Commit of the checkout that the package lies in, with '-dirty' when tracked files differ.

    Args:
        package: Folder of the package; None takes this one's.

    Returns:
        None outside a checkout of its own: installed into a folder of another repository, that
        repository's commit would say nothing.
    """
    folder = Path(package or Path(milan_mm.__file__).parent).resolve()
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != folder.parent:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit + ("-dirty" if changed else "")


def data_counts(cfg: Config) -> dict[str, int]:
    """Samples of each split, as the data sets of the config count them (after their filters).

    Raises:
        FileNotFoundError, ValueError: Of a data set that cannot be built.
    """
    counts = {}
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        for loader, split in (("train_dataloader", "train"), ("val_dataloader", "val")):
            datasets = list(datasets_of(cfg, loader))
            if datasets:
                counts[split] = sum(len(_build(dataset)) for _, dataset in datasets)
    return counts


def _build(dataset: dict) -> Any:
    # nothing is read; mmengine cannot serialise a list of no images
    return DATASETS.build(dict(dataset, pipeline=[], serialize_data=False))


def _canonical(cfg: Config) -> dict:
    """The sections that matter, as plain values without what belongs to the machine."""
    content = cfg.to_dict()
    found = [node.get("data_root") for _, node in config_nodes(content)]
    roots = {root.rstrip("/") for root in found if isinstance(root, str)} - {""}
    longest_first = sorted(roots, key=len, reverse=True)
    recipe = {name: _clean(content[name], longest_first) for name in _SECTIONS if name in content}
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


def _clean(node: object, roots: list[str]) -> Any:
    """Drop keys of the machine, and make paths relative to the data."""
    if isinstance(node, dict):
        return {
            str(key): _clean(value, roots)
            for key, value in node.items()
            if key not in OF_THE_MACHINE and key != "data_root"
        }
    if isinstance(node, (list, tuple)):
        return [_clean(value, roots) for value in node]
    if isinstance(node, (str, Path)):
        text = str(node)
        for root in roots:
            if text.startswith(f"{root}/"):
                return text.removeprefix(root).lstrip("/")
        return Path(text).name if text.startswith("/") else text
    if isinstance(node, type):
        return f"{node.__module__}.{node.__qualname__}"
    return node


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git; None when there is no git, or it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
