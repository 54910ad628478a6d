"""Have the splits of a classification the same classes, and as many as the head?

mmpretrain numbers the classes of each split by its own sorted folders, so a class that is missing
in one of them moves all later labels by one, without a word.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.class_folders import compare_classes, refuse_hidden
from milan_mm.datasets.folders import subfolders
from milan_mm.datasets.identity import image_folder
from milan_mm.errors import UserError
from milan_mm.run.checks.files import is_local
from milan_mm.run.config_nodes import datasets_of, type_name
from milan_mm.run.image_types import FOLDER_TYPES

TRAINING = ("train_dataloader",)


def check_classes(cfg: Config, loaders: Sequence[str]) -> list[str]:
    """Compare class folders of the given data loaders with those of training, and with the head.

    Other tasks, and data sets that name their samples in a file, have none. The training images
    need not be on a machine that tests.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Returns:
        Lines for the log.

    Raises:
        UserError: When splits have different classes, or more than the head.
    """
    num_classes = (cfg.get("model", {}).get("head") or {}).get("num_classes")
    if cfg.get("default_scope") != "mmpretrain" or not isinstance(num_classes, int):
        return []
    trained = next(_class_folders(cfg, "train_dataloader"), None)
    checked = [folder for loader in loaders for folder in _class_folders(cfg, loader)]
    if "train_dataloader" not in loaders and _roots(cfg, loaders) != _roots(cfg, TRAINING):
        trained = None  # a test on other data, whose classes are compared with the checkpoint's
    for folder, classes in [*checked, *([trained] if trained else [])]:
        refuse_hidden(folder, classes)
    for folder, classes in checked:
        if trained and folder != trained[0]:
            compare_classes(*trained, folder, classes)
        if len(classes) > num_classes:
            raise UserError(
                f"'{folder}' has {len(classes)} classes, model.head.num_classes is {num_classes}: "
                f"pass --cfg-options model.head.num_classes={len(classes)}, or let --data DIR do it"
            )
        if not trained and len(classes) < num_classes:
            raise UserError(
                f"'{folder}' has {len(classes)} of the head's {num_classes} classes, and its "
                "folders number them: add an empty folder for each class without images"
            )
    if trained and checked and len(trained[1]) < num_classes:
        return [
            f"'{trained[0]}' has {len(trained[1])} classes, fewer than the head's {num_classes}: "
            "the last of the head are never seen"
        ]
    return []


def _roots(cfg: Config, loaders: Sequence[str]) -> set[str]:
    return {d.get("data_root") or "" for loader in loaders for _, d in datasets_of(cfg, loader)}


def _class_folders(cfg: Config, loader: str) -> Iterator[tuple[Path, list[str]]]:
    """The folders of a data loader whose subfolders are classes, and these."""
    for _, dataset in datasets_of(cfg, loader):
        if type_name(dataset) not in FOLDER_TYPES or not is_local(dataset):
            continue
        if dataset.get("ann_file") or not dataset.get("with_label", True) or _has_list(dataset):
            continue
        if (folder := image_folder(dataset)) and folder.is_dir():
            yield folder, subfolders(folder)


def _has_list(dataset: Mapping) -> bool:
    """Whether mmpretrain finds the labels of a split of ImageNet in a file, or there are none."""
    split = dataset.get("split")
    return split == "test" or Path(dataset.get("data_root") or "", "meta", f"{split}.txt").is_file()
