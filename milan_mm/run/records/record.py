"""A run that describes itself: the record in its checkpoints.

`differences` compares two of them; `milan_mm.weights.record` reads records, whoever wrote them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from milan_mm.datasets.identity import data_hash
from milan_mm.early import check_checkpoint
from milan_mm.errors import UserError
from milan_mm.run.config_nodes import config_nodes, datasets_of
from milan_mm.run.processes import is_main_process, world_size
from milan_mm.run.records.canonical import canonical_settings, config_hash, package_versions
from milan_mm.run.schedule.schedules import is_iter_based, iterations_per_update
from milan_mm.run.start.checkpoint_files import newest
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.record import (
    KEY,
    SCHEDULE,
    VERSION,
    backbone_options,
    plain,
    read_record,
    statistics,
)

__all__ = ["KEY", "Recorded", "read_record", "record_of"]
# What a prepared config carries along for its record: 'recipe', 'recipe_hash', 'encoder' of
# `--weights`, 'new_length' of `--epochs` and `--iters`, and 'options', those of the command line
# that a later command may have to repeat; for run.json 'command' and 'changes'.
ORIGIN = "origin"
_PRECISION = ("type", "modules")  # of optim_wrapper: a CPU may not have that of the recipe
# What a type stands for: a CPU does not synchronise, and a resumed run starts further on.
_STANDS_FOR = {
    "SyncBN": "BN",
    "milan_mm.ResumedEpochLoop": "EpochBasedTrainLoop",
    "milan_mm.ResumedIterLoop": "IterBasedTrainLoop",
}
_HEADLESS = ("backbone", "teacher", "rpn_head")
_MASK_HEADS = ("roi_head.mask_head.", "panoptic_head.")  # names of tensors begin with
_NUMBERS_OF_CLASSES = ("num_classes", "num_things_classes")


@dataclass(frozen=True)
class Recorded:
    """What a checkpoint says about its run.

    Attributes:
        path: The file.
        record: See `record_of`; None in files of earlier versions.
        classes: That it was trained on; None where it does not name them.
        masks: Whether it has a mask head.
        meta: What mmengine has written about the run.
    """

    path: str
    record: dict[str, Any] | None
    classes: list[str] | None
    masks: bool
    meta: Mapping[str, Any]

    @classmethod
    def read(cls, path: str) -> "Recorded":
        """That of a file.

        Raises:
            MissingFileError, UserError: See `checkpoint_file`, `read_checkpoint`, `read_record`.
        """
        return cls.of(read_checkpoint(checkpoint_file(path)), path)

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any], path: str) -> "Recorded":
        """That of a file that was read already."""
        record, meta = read_record(checkpoint, path), checkpoint.get("meta")
        meta = meta if isinstance(meta, Mapping) else {}
        of_data = meta.get("dataset_meta")
        classes = of_data.get("classes") if isinstance(of_data, Mapping) else None
        names = [str(name) for name in classes] if isinstance(classes, (list, tuple)) else None
        state = checkpoint.get("state_dict", checkpoint)
        masks = any(str(name).startswith(_MASK_HEADS) for name in state)
        return cls(path, record, (record and record["classes"]) or names or None, masks, meta)


def checkpoint_file(path: str) -> str:
    """The path of a checkpoint, where there is one.

    Raises:
        MissingFileError, UserError: For a work directory, naming its newest checkpoint.
    """
    check_checkpoint(path)
    file = Path(path)
    if file.is_dir() and (last := newest(file)):
        raise UserError(f"'{path}' is a folder: name a checkpoint; its newest is {last}")
    return path


def record_of(
    cfg: Config, runner: Runner | None = None, schedule: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record of a run, of plain types.

    Args:
        cfg: Prepared, see `milan_mm.run.prepare`.
        runner: Built from it; without one, what only data sets show is left unknown: counts and
            hashes of the data, and the classes that folders name.
        schedule: See `Plan.schedule`; None takes what the config says of it.
    """
    origin = cfg.get(ORIGIN) or {}
    loader, wrapper = cfg.get("train_dataloader") or {}, cfg.get("optim_wrapper") or {}
    processes = world_size(cfg.get("launcher", "none"))
    batch, accumulation = loader.get("batch_size", 0), wrapper.get("accumulative_counts", 1)
    record = dict(
        version=VERSION,
        recipe=origin.get("recipe") or recipe_name(cfg),
        recipe_hash=origin.get("recipe_hash") or config_hash(cfg),
        encoder=origin.get("encoder"),
        model=model_of(cfg),
        classes=_classes(cfg, runner),
        total_batch=cfg.get("total_batch") or batch * processes * accumulation or None,
        split=dict(
            batch_per_process=batch,
            processes=processes,
            accumulation=iterations_per_update(cfg),
        ),
        schedule=schedule or _schedule(cfg),
        data=_data(cfg, runner),
        seed=runner.seed if runner else (cfg.get("randomness") or {}).get("seed"),
        versions=package_versions(),
        settings=settings_of(cfg),
        options=origin.get("options") or {},
    )
    return plain(record)


def keep_origin(cfg: Config, **facts: Any) -> None:
    """Let a config carry facts along for its record: those of `ORIGIN`."""
    cfg[ORIGIN] = dict(cfg.get(ORIGIN) or {}) | facts


def recipe_name(cfg: Config) -> str:
    """The name of a config's file."""
    return Path(cfg.filename).stem if cfg.filename else ""


def model_of(cfg: Config) -> dict[str, Any]:
    """What of a recipe's model a test must agree with.

    Returns:
        type: Of the model.
        backbone: All options of a `PlainViT`, see `backbone_options`; None for another backbone.
        statistics: See `milan_mm.weights.record.statistics`.
        num_classes: That of its heads; None without one, or where heads differ.
        masks: Whether it has a mask head.
    """
    model = cfg.get("model") or {}
    preprocessor = model.get("data_preprocessor") or cfg.get("data_preprocessor")
    heads = {
        node[key]
        for name, node in config_nodes(model)
        for key in _NUMBERS_OF_CLASSES
        if type(node.get(key)) is int and not {*name.split(".")} & {*_HEADLESS}
    }
    return dict(
        type=str(model.get("type", "")),
        backbone=backbone_options(model.get("backbone") or {}),
        statistics=statistics(preprocessor),
        num_classes=heads.pop() if len(heads) == 1 else None,
        masks=bool((model.get("roi_head") or {}).get("mask_head") or model.get("panoptic_head")),
    )


def settings_of(cfg: Config) -> dict[str, Any]:
    """What decides the numbers of a config that is fitted to a machine already."""
    settings = canonical_settings(cfg)
    for name in _PRECISION:
        settings.get("optim_wrapper", {}).pop(name, None)
    for _, node in config_nodes(settings):
        if isinstance(kind := node.get("type"), str):
            node["type"] = _STANDS_FOR.get(kind, kind)
        node.pop("worker_init_fn", None)
    return settings


def _classes(cfg: Config, runner: Runner | None) -> list[str] | None:
    """Names of the classes that are learnt, as the data set or its settings have them."""
    if runner is not None:
        metainfo = getattr(runner.train_dataloader.dataset, "metainfo", None) or {}
        return list(metainfo.get("classes") or []) or None
    datasets = [dataset for _, dataset in datasets_of(cfg, "train_dataloader")]
    metainfo = (datasets[0].get("metainfo") or {}) if len(datasets) == 1 else {}
    return list(metainfo.get("classes") or []) or None


def _data(cfg: Config, runner: Runner | None) -> dict[str, Any]:
    """Count, hash and place of the images of each split; the main process alone looks for them."""
    if runner is None or not is_main_process():
        return {}
    found = {}
    for split in ("train", "val"):
        datasets = [dataset for _, dataset in datasets_of(cfg, f"{split}_dataloader")]
        if len(datasets) != 1:
            continue
        loop = runner.train_loop if split == "train" else runner.val_loop
        dataset = datasets[0]
        found[split] = dict(
            count=len(loop.dataloader.dataset),
            hash=data_hash(dataset),
            root=dataset.get("data_root"),
        )
    return found


def _schedule(cfg: Config) -> dict[str, Any]:
    """What a config says of its length before its data are known."""
    loop = cfg.get("train_cfg") or {}
    found = dict.fromkeys(SCHEDULE)
    if loop and is_iter_based(cfg):
        found["updates"] = loop["max_iters"] // iterations_per_update(cfg)
    elif loop:
        found["epochs"] = loop.get("max_epochs")
    return found
