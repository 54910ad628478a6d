"""Classification on any ImageFolder: DIR/{train,val}/CLASS/*."""

from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.class_folders import (
    REMEDY,
    class_names,
    compare_classes,
    count_classes,
    refuse_empty,
)
from milan_mm.datasets.folders import EXTENSIONS, find_split, list_photos, note_unread
from milan_mm.errors import UserError
from milan_mm.run.own_data.judged import check_classes, find_judged
from milan_mm.run.own_data.settings import metainfo, set_dataset, set_num_classes
from milan_mm.run.records.record import Recorded
from milan_mm.text import count, shorten_list


def use_image_folder(cfg: Config, root: Path, tested: Recorded | None = None) -> list[str]:
    """Take the folders of the training split as classes, in alphabetical order.

    Args:
        tested: See `set_own_data`.

    Raises:
        MissingFileError: When a split is missing.
        UserError: When the splits have different classes, or a class has no training images.
    """
    if tested:
        return _use_judged(cfg, root, tested)
    train, val = (find_split(root, split, REMEDY) for split in ("train", "val"))
    classes = class_names(train)
    photos = {folder: list_photos(folder) for folder in (train, val)}
    counts = {folder: count_classes(images) for folder, (images, _) in photos.items()}
    notes = [
        n for folder, (i, unread) in photos.items() for n in note_unread(folder, len(i), unread)
    ]
    refuse_empty(train, classes, counts[train])
    compare_classes(train, classes, val, class_names(val))
    if not any(counts[val].values()):
        raise UserError(f"'{val}' has no images: move some of each class there from '{train}'")
    _set(cfg, root, classes, train_dataloader=train, val_dataloader=val, test_dataloader=val)
    sizes = sorted(counts[train].values())
    return [
        f"{count(sum(sizes), 'image')} in '{train}', {sum(counts[val].values()):,} in '{val}'",
        f"{_classes(classes)} of {_range(sizes)}: " + shorten_list(classes),
        *notes,
    ]


def _use_judged(cfg: Config, root: Path, tested: Recorded) -> list[str]:
    """Test on one split, whose folders are the classes of the checkpoint."""
    folder, classes = find_judged(root, REMEDY), tested.classes or []
    remedy = "give it the same class folders, an empty one for a class without images"
    check_classes(tested.path, classes, folder, class_names(folder), remedy)
    images, unread = list_photos(folder)
    notes = note_unread(folder, len(images), unread)
    if not images:
        raise UserError(f"'{folder}' has no images: add images ({' '.join(EXTENSIONS)})")
    _set(cfg, root, classes, val_dataloader=folder, test_dataloader=folder)
    return [
        f"{count(len(images), 'image')} in '{folder}'",
        f"{_classes(classes)}, those of {tested.path}: {shorten_list(classes)}",
        *notes,
    ]


def _classes(classes: list[str]) -> str:
    return f"{len(classes)} class" if len(classes) == 1 else f"{len(classes)} classes"


def _range(sizes: list[int]) -> str:
    """From the smallest to the largest class."""
    largest = count(sizes[-1], "training image")
    return largest if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {largest}"


def _set(cfg: Config, root: Path, classes: list[str], **loaders: Path) -> None:
    """Put the folders into the data loaders, and the number of classes into heads and metrics."""
    for loader, folder in loaders.items():
        set_dataset(
            cfg,
            loader,
            type="CustomDataset",
            data_root=str(root),
            data_prefix=folder.name,
            metainfo=metainfo(classes),
            extensions=EXTENSIONS,
        )
    for part in (cfg.model, cfg.get("data_preprocessor")):
        set_num_classes(part, len(classes))
