"""Changing a config: its data sets, the sizes of its heads, its metrics."""

from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from milan_mm.errors import UserError
from milan_mm.palette import class_palette
from milan_mm.run.config_nodes import config_nodes, datasets_of

_KEPT = ("pipeline", "test_mode", "filter_cfg")  # of a recipe's data set: they name no files
_CLASS_AGNOSTIC = ("backbone", "teacher", "rpn_head")


def set_dataset(cfg: Config, loader: str, **settings: object) -> None:
    """Put another data set into a data loader, inside any wrappers; pipeline and filters stay.

    Raises:
        UserError: When the recipe mixes several data sets.
    """
    datasets = [dataset for _, dataset in datasets_of(cfg, loader)]
    if len(datasets) > 1:
        raise UserError(
            f"--data: {loader} of {cfg.filename} mixes {len(datasets)} data sets: take a recipe "
            "with one"
        )
    kept = {key: datasets[0][key] for key in _KEPT if key in datasets[0]}
    datasets[0].clear()
    datasets[0].update(settings, **kept)


def transforms_of(cfg: Config, loader: str) -> Iterator[ConfigDict]:
    """Every transform of a data loader, also those inside other transforms."""
    for _, dataset in datasets_of(cfg, loader):
        for _, node in config_nodes(dataset.get("pipeline")):
            yield node


def set_num_classes(node: object, num_classes: int) -> None:
    """Give every head below `node` its number of classes, in place.

    A region proposal head, which separates objects from background, keeps its own.
    """
    if isinstance(node, (list, tuple)):
        for value in node:
            set_num_classes(value, num_classes)
    elif isinstance(node, dict):
        if "num_classes" in node:
            _set_class_weights(node, node["num_classes"], num_classes)
            node["num_classes"] = num_classes
        if "num_things_classes" in node:  # of Mask2Former, whose stuff is that of panoptic labels
            before = node["num_things_classes"] + node.get("num_stuff_classes", 0)
            _set_class_weights(node, before, num_classes)
            node.update(num_things_classes=num_classes, num_stuff_classes=0)
        for key, value in node.items():
            if key not in _CLASS_AGNOSTIC:
                set_num_classes(value, num_classes)


def _set_class_weights(head: dict, before: int, num_classes: int) -> None:
    """Of Mask2Former: one weight for each class, and one for "no object"."""
    loss = head.get("loss_cls") or {}
    weights = loss.get("class_weight")
    if isinstance(weights, (list, tuple)) and len(weights) == before + 1:
        loss["class_weight"] = [weights[0]] * num_classes + [weights[-1]]


def metainfo(classes: Sequence[str]) -> dict:
    """What pictures and tables call the classes, and their colours (RGB, 0-255)."""
    return dict(classes=tuple(classes), palette=class_palette(len(classes)))
