"""Changing a config: its data sets, the sizes of its heads, its metrics."""

import colorsys
from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from milan_mm.errors import UserError

_KEPT = ("pipeline", "test_mode", "filter_cfg")  # of a recipe's data set: they name no files
_CLASS_AGNOSTIC = ("backbone", "teacher", "rpn_head")
_GOLDEN_RATIO = 0.618034


def set_dataset(cfg: Config, loader: str, **settings: object) -> None:
    """Put another data set into a data loader, inside any wrappers; pipeline and filters stay.

    Raises:
        UserError: When the recipe mixes several data sets.
    """
    parent = cfg[loader]
    while isinstance(parent.dataset.get("dataset"), dict):
        parent = parent.dataset
    before = parent.dataset
    if "datasets" in before:
        raise UserError(
            f"--data: {loader} of {cfg.filename} mixes {len(before.datasets)} data sets: take a "
            "recipe with one"
        )
    kept = {key: before[key] for key in _KEPT if key in before}
    parent.dataset = ConfigDict(**settings, **kept)


def pipelines(cfg: Config, loader: str) -> Iterator[ConfigDict]:
    """Every transform of a data loader, also those inside other transforms."""
    dataset = cfg[loader].dataset
    while isinstance(dataset.get("dataset"), dict):
        dataset = dataset.dataset
    yield from _transforms(dataset.get("pipeline") or [])


def _transforms(node: object) -> Iterator[ConfigDict]:
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _transforms(value)
    elif isinstance(node, dict):
        yield node
        yield from _transforms(node.get("transforms") or [])


def evaluators(cfg: Config, name: str) -> list[ConfigDict]:
    """The metrics of 'val_evaluator' or 'test_evaluator'."""
    found = cfg.get(name) or []
    return [found] if isinstance(found, dict) else list(found)


def set_num_classes(node: object, num_classes: int) -> None:
    """Give every head below `node` its number of classes, in place.

    A region proposal head, which tells objects from background, keeps its own.
    """
    if isinstance(node, (list, tuple)):
        for value in node:
            set_num_classes(value, num_classes)
    elif isinstance(node, dict):
        if "num_classes" in node:
            node["num_classes"] = num_classes
        for key, value in node.items():
            if key not in _CLASS_AGNOSTIC:
                set_num_classes(value, num_classes)


def metainfo(classes: Sequence[str]) -> dict:
    """What pictures and tables call the classes, and their colours (RGB, 0-255).

    Neighbouring classes are far apart on the colour circle.
    """
    colours = [
        colorsys.hsv_to_rgb(i * _GOLDEN_RATIO % 1, (0.9, 0.55)[i % 2], (1.0, 0.75)[i // 2 % 2])
        for i in range(len(classes))
    ]
    palette = [tuple(round(255 * value) for value in colour) for colour in colours]
    return dict(classes=tuple(classes), palette=palette)
