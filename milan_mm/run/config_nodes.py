"""Walking over a config: its dicts, its data sets, its metrics, its teachers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from milan_mm.weights.names import shipped


def config_nodes(node: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every dict of a config, outer first, with its dotted name; lists count their parts.

    A dict that stands in several places comes once, so that a change in place happens once.

    Args:
        node: A config, or a part of it.
        name: Its own, which those of the others begin with.
    """
    seen: set[int] = set()
    waiting = [(name, node)]
    while waiting:
        name, node = waiting.pop()
        if id(node) in seen:
            continue
        parts: list[tuple[Any, object]] = []
        if isinstance(node, (dict, Config)):
            seen.add(id(node))
            yield name, node
            parts = list(node.items())
        elif isinstance(node, (list, tuple)):
            parts = list(enumerate(node))
        waiting += [(f"{name}.{key}".lstrip("."), value) for key, value in reversed(parts)]


def datasets_of(cfg: Config | Mapping, loader: str) -> Iterator[tuple[str, Any]]:
    """The data sets of a data loader inside all wrappers, with their dotted names.

    Args:
        loader: E.g. 'train_dataloader'; without it in the config there are none.
    """
    if cfg.get(loader):
        yield from _unwrap(cfg[loader]["dataset"], f"{loader}.dataset")


def type_name(node: Mapping) -> str:
    """Name of the class that a config names, without its scope; configs may hold the class."""
    kind = node["type"]
    return kind.__name__ if isinstance(kind, type) else kind.rpartition(".")[-1]


def evaluators_of(cfg: Config, loader: str) -> list[Any]:
    """The metrics that judge the samples of a data loader."""
    found = cfg.get(loader.replace("dataloader", "evaluator")) or []
    return [found] if isinstance(found, dict) else list(found)


def views_of_test(cfg: Config | Mapping) -> list | None:
    """The pipeline that shows a test every image several times; None for one view.

    It is `tta_pipeline`, as in mmdet and mmseg: `test_dataloader` keeps the single view, which
    inferencers take. Their models merge views on request (`--tta`), a `MultiScaleSegmentor` always.
    Views in `test_dataloader`, as earlier versions had them, are taken instead: a recipe inherits a
    `tta_pipeline` from mmseg, which is another protocol.
    """
    kind = (cfg.get("tta_model") or {}).get("type")
    own = any(shows_views(node.get("pipeline")) for _, node in datasets_of(cfg, "test_dataloader"))
    is_merged = kind == "milan_mm.MultiScaleSegmentor" and not own
    return cfg.get("tta_pipeline") if is_merged else None


def shows_views(pipeline: Sequence[Mapping] | None) -> bool:
    """Whether transforms make several views of an image."""
    return any(type_name(transform) == "TestTimeAug" for transform in pipeline or ())


def teachers(node: object) -> Iterator[Any]:
    """The settings of every teacher in a config: wherever an architecture and weights are named."""
    return (part for _, part in config_nodes(node) if {"model_name", "pretrained"} <= part.keys())


def is_read_from_disk(teacher: Mapping) -> bool:
    """Whether an encoder's file, which says what it is, is here; such a teacher needs no other."""
    weights = str(teacher["pretrained"])
    is_here = Path(weights).exists() or shipped(weights) is not None
    return type_name(teacher) == "EncoderTeacher" and is_here


def _unwrap(dataset: dict, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(dataset.get("dataset"), dict):
        yield from _unwrap(dataset["dataset"], f"{name}.dataset")
    elif "datasets" in dataset:
        for i, part in enumerate(dataset["datasets"]):
            yield from _unwrap(part, f"{name}.datasets.{i}")
    else:
        yield name, dataset
