"""What a protocol on frozen patches is run with: its settings, and mmseg's data sets."""

from typing import Any

from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation.frozen.dense import DenseSettings
from milan_mm.evaluation.recipes import Shape, recipe_name
from milan_mm.evaluation.short import NUM_VAL
from milan_mm.evaluation.tasks import of_kind, trained
from milan_mm.run.config_nodes import datasets_of
from milan_mm.run.fields.image_size import check_patches

_ENDINGS = {"-knn": "knn", "-logreg": "logistic"}
_LINEAR = "-linear"  # ends the task whose recipe names the data sets and their classes
CLASSIFIERS = {
    task.removesuffix(_LINEAR) + ending: classifier
    for task in trained(of_kind("maps"))
    if task.endswith(_LINEAR)
    for ending, classifier in _ENDINGS.items()
}
_SPLITS = dict(train="train_dataloader", val="val_dataloader")


def dense_recipe(
    task: str, shape: Shape, img_size: int | None = None
) -> tuple[str, DenseSettings, Config]:
    """Name and settings of a protocol, and a config with its data sets.

    Args:
        img_size: Side of the squeezed images in pixels; None takes that of the pretraining.

    Raises:
        UserError: For a size that patches do not divide.
    """
    size = img_size or shape.img_size
    check_patches(size, shape.patch_size, f"--img-size {img_size}")
    name = f"{task}_vit-{shape.arch}-p{shape.patch_size}"
    data = task.rpartition("-")[0]
    cfg = load(recipe_name(data + _LINEAR, "base"))
    return name, DenseSettings(CLASSIFIERS[task], size), cfg


def shorten_data(cfg: Config) -> None:
    """Leave a few images of both splits, in place."""
    for loader in _SPLITS.values():
        for _, dataset in datasets_of(cfg, loader):
            dataset.indices = NUM_VAL


def dense_data(cfg: Config) -> tuple[dict[str, dict[str, Any]], int]:
    """Data sets by split, and the number of their classes."""
    found = {}
    for split, loader in _SPLITS.items():
        ((_, dataset),) = datasets_of(cfg, loader)
        found[split] = dict(dataset)
    return found, cfg.model.decode_head.num_classes


def check_enough(task: str, counts: dict[str, int]) -> None:
    """Settings are chosen on images held out.

    Raises:
        UserError: When there is a single training image.
    """
    if counts["train"] < 2:
        raise UserError(
            f"{task}: settings are chosen on training images held out, and there is "
            f"{counts['train']} training image: add images"
        )
