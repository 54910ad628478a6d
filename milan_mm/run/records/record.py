"""A run that describes itself: the record in its checkpoints, and how two of them differ.

Tests, resumed runs and evaluations compare the record of a checkpoint with that of the command at
hand, each by its own policy. `milan_mm.weights.record` reads records, whoever wrote them.
"""

import math
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

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
from milan_mm.text import shorten_value
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

__all__ = ["KEY", "Difference", "Kind", "Recorded", "differences", "read_record", "record_of"]

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
# Fields whose difference changes nothing, or which only name things.
_NAMES = ("version", "recipe", "recipe_hash", "versions", "split", "options")
_HARMLESS = ("encoder.source", "encoder.fields", "encoder.reading", "model.backbone.with_cp")
# Of a test: what matters in training only.
_TRAINING_ONLY = ("drop_path_rate", "frozen", "frozen_stages", "fixed_pos_embed", "with_cp")
# Compared under other names already.
_REPEATED = (
    "settings.total_batch",
    "settings.model.backbone",
    "settings.model.data_preprocessor",
    "settings.data_preprocessor",
)
# Other parts of the model follow from these, which a record does not set.
_WIDTHS = ("model.type", "model.backbone.arch")
_HEADLESS = ("backbone", "teacher", "rpn_head")
_MASK_HEADS = ("roi_head.mask_head.", "panoptic_head.")  # names of tensors begin with
_NUMBERS_OF_CLASSES = ("num_classes", "num_things_classes")
Use = Literal["test", "resume"]


class Kind(Enum):
    """What a difference means.

    KNOWN: The record knows better: the command says nothing of its own about it.
    CONTRADICTION: Both say something, and the result would be another.
    HARMLESS: The result is the same, up to rounding.
    """

    KNOWN = "known"
    CONTRADICTION = "contradiction"
    HARMLESS = "harmless"


@dataclass(frozen=True)
class Difference:
    """A field with two values.

    Attributes:
        field: Dotted, e.g. 'model.backbone.act' or 'settings.optim_wrapper.optimizer.lr'.
        recorded, now: In the record, and in the run at hand; None where it is not set.
    """

    field: str
    recorded: Any
    now: Any
    kind: Kind

    def __str__(self) -> str:
        name = self.field.removeprefix("settings.").replace("statistics", "data_preprocessor")
        recorded, now = shorten_value(self.recorded), shorten_value(self.now)
        return f"{name} is {recorded} in the checkpoint and {now} here"


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


def differences(
    record: dict[str, Any],
    now: dict[str, Any],
    use: Use,
    fixed: Collection[str] = (),
) -> list[Difference]:
    """The fields in which two records differ; equal ones are left out.

    Args:
        record: Of a checkpoint.
        now: Of the run at hand, see `record_of`.
        use: 'test' compares the model and the classes, 'resume' everything.
        fixed: Dotted names of the config that the user set, which a record never overrides.
    """
    same_recipe = record["recipe_hash"] == now["recipe_hash"]
    found = []
    record, now = _named_encoder(record, now)
    for field in dict.fromkeys([*leaves(record), *leaves(now)]):
        if not _counts(field, use):
            continue
        recorded, value = value_of(record, field), value_of(now, field)
        if not _equal(recorded, value):
            kind = _kind(field, recorded, value, use, same_recipe and not is_fixed(field, fixed))
            found.append(Difference(field, recorded, value, kind))
    return found


def changes_of(recipe: Any, now: Any, name: str = "") -> list[dict[str, Any]]:
    """What options made of a recipe; a part of another type is one change.

    Args:
        recipe, now: See `settings_of`, before the first change and after the last.
        name: Of what is compared.

    Returns:
        field: Dotted. recipe, now: Its values; None where it is not set.
    """
    both = (recipe, now)
    if all(isinstance(v, Mapping) for v in both) and recipe.get("type") == now.get("type"):
        dots = f"{name}." if name else ""
        keys = dict.fromkeys([*recipe, *now])
        parts = [changes_of(recipe.get(key), now.get(key), f"{dots}{key}") for key in keys]
        return [change for part in parts for change in part]
    if all(_holds_parts(v) for v in both) and len(recipe) == len(now):
        pairs = enumerate(zip(recipe, now, strict=True))
        return [c for i, (old, new) in pairs for c in changes_of(old, new, f"{name}.{i}")]
    return [] if _equal(recipe, now) else [dict(field=name, recipe=recipe, now=now)]


def _holds_parts(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(part, Mapping) for part in value)


def forgotten(record: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Options of the recorded command that this one is without, as a user writes them."""
    given = {name: v for name, v in record["options"].items() if name not in now["options"]}
    return " ".join(
        f"--{name.replace('_', '-')} {shlex.quote(str(v))}" for name, v in given.items()
    )


def is_fixed(field: str, fixed: Collection[str]) -> bool:
    """Whether the user set a field, a part of it, or what it is a part of.

    Args:
        field: Of a record. fixed: Of the config.
    """
    names = _CONFIG_NAMES.get(field, (field.removeprefix("settings."),))
    if field == "model.num_classes":  # of every head
        names = tuple(name for name in fixed if name.endswith(".num_classes"))
    return any(
        name == given or name.startswith(f"{given}.") or given.startswith(f"{name}.")
        for name in names
        for given in fixed
    )


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


_STATISTICS = tuple(
    f"{place}data_preprocessor.{name}" for place in ("", "model.") for name in ("mean", "std")
)
# Field of a record -> names of a config, where it is not the same name.
_CONFIG_NAMES = {
    "model.statistics.mean": _STATISTICS[::2],
    "model.statistics.std": _STATISTICS[1::2],
    "seed": ("randomness.seed",),
}


def _kind(field: str, recorded: Any, now: Any, use: Use, record_wins: bool) -> Kind:
    if field.startswith(_HARMLESS) or field.endswith(".root"):
        return Kind.HARMLESS
    if field.endswith(".extensions") and None in (recorded, now):
        return Kind.HARMLESS  # other images would be another data set, which has a hash
    if use == "test" and field.rpartition(".")[2] in _TRAINING_ONLY:
        return Kind.HARMLESS
    if field.startswith("model.") and record_wins and not field.startswith(_WIDTHS):
        return Kind.KNOWN
    if field.startswith("encoder.") and recorded is None:
        return Kind.HARMLESS  # a file that is gone has no checksum
    is_known_here = field.startswith(("settings.", "model."))
    return Kind.KNOWN if now is None and not is_known_here else Kind.CONTRADICTION


def _named_encoder(*records: dict[str, Any]) -> list[dict[str, Any]]:
    """Where one of them had weights and the other none, these are known by their name alone."""
    encoders = [record["encoder"] for record in records]
    if all(encoders):
        return [*records]
    names = [encoder and encoder["source"] for encoder in encoders]
    return [record | dict(encoder=name) for record, name in zip(records, names, strict=True)]


def _counts(field: str, use: Use) -> bool:
    """Whether a field is compared at all."""
    if field.partition(".")[0] in _NAMES or field.startswith(_REPEATED):
        return False
    return use == "resume" or field.startswith(("model.", "classes"))


def leaves(node: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Dotted names of all values; a list is a value unless it holds dicts."""
    for key, value in node.items():
        if isinstance(value, list) and any(isinstance(part, dict) for part in value):
            value = {str(i): part for i, part in enumerate(value)}
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{name}{key}.")
        else:
            yield f"{name}{key}"


def value_of(node: Any, field: str) -> Any:
    for key in field.split("."):
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


def _equal(a: Any, b: Any) -> bool:
    """Numbers are equal up to rounding: statistics are written in 0-1 and in 0-255."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if type(a) in (int, float) and type(b) in (int, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return bool(a == b) or (not a and not b and a in (None, {}, []) and b in (None, {}, []))


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
