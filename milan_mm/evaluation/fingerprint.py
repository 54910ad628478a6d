"""What a result belongs to: weights, recipe, protocol, packages, code and data.

Two numbers may be compared when their protocol hashes and data counts are equal. Hashes are taken
of the recipe as written, before it is fitted to a machine: the same recipe on 1 or 64 GPUs, in
bfloat16 or float32, has one hash; precision is a key of its own in the row.
"""

import subprocess
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

import milan_mm
from milan_mm.datasets.folders import EXTENSIONS
from milan_mm.datasets.identity import data_hash
from milan_mm.models.vit_options import WEIGHT_OPTIONS
from milan_mm.run.config_nodes import datasets_of, type_name
from milan_mm.run.image_types import FOLDER_TYPES
from milan_mm.run.records.canonical import canonical_settings, settings_hash

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


def protocol_hash(cfg: Config) -> str:
    """Hash of what two runs must share to be comparable.

    That is the recipe of `config_hash` (run/records/canonical.py) without the encoder: its
    architecture, initial weights and image statistics may differ. Drop path, windows, frozen or
    not, and which blocks and tokens are used belong to the task.

    Args:
        cfg: Not yet fitted to the machine.
    """
    recipe = canonical_settings(cfg)
    model = recipe.get("model", {})
    if isinstance(model, dict):
        backbone = model.pop("backbone", {})
        model["backbone"] = {k: v for k, v in backbone.items() if k not in OF_THE_ENCODER}
    for preprocessor in (model.get("data_preprocessor"), recipe.get("data_preprocessor")):
        for key in _STATISTICS:
            (preprocessor or {}).pop(key, None)
    return settings_hash(recipe)


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


def data_hashes(cfg: Config) -> dict[str, str | None]:
    """Which data each split has, by content; folders of one name may hold other photos.

    Returns:
        See `milan_mm.datasets.identity.data_hash`; several data sets of a split have one hash.
    """
    hashes = {}
    for loader, split in (("train_dataloader", "train"), ("val_dataloader", "val")):
        found = [data_hash(dataset) for _, dataset in datasets_of(cfg, loader)]
        if found:
            hashes[split] = found[0] if len(found) == 1 else settings_hash(found)
    return hashes


def _build(dataset: dict) -> Any:
    # nothing is read; mmengine cannot serialise a list of no images
    settings = dict(dataset, pipeline=[], serialize_data=False)
    if type_name(dataset) in FOLDER_TYPES:
        settings.setdefault("extensions", EXTENSIONS)  # as a training will read it
    return DATASETS.build(settings)


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git; None when there is no git, or it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
