"""Classification on any ImageFolder: DIR/{train,val}/CLASS/*."""

from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.folders import EXTENSIONS, find_split, list_images, subfolders
from milan_mm.errors import UserError
from milan_mm.run.checks.classes import compare_classes
from milan_mm.run.own_data.judged import check_classes, find_judged
from milan_mm.run.own_data.settings import metainfo, set_dataset, set_num_classes
from milan_mm.run.record import Recorded
from milan_mm.text import shorten_list

_REMEDY = "sort your images into DIR/train/CLASS/ and DIR/val/CLASS/"


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
    train, val = (find_split(root, split, _REMEDY) for split in ("train", "val"))
    classes = _classes(train)
    counts = {folder: _count(folder) for folder in (train, val)}
    empty = [name for name in classes if not counts[train].get(name)]
    if empty:
        raise UserError(
            f"{len(empty)} of {len(classes)} classes in '{train}' have no images, first "
            f"'{empty[0]}': add images ({' '.join(EXTENSIONS)}), or remove it from both splits"
        )
    compare_classes(train, classes, val, _classes(val))
    if not any(counts[val].values()):
        raise UserError(f"'{val}' has no images: move some of each class there from '{train}'")
    _set(cfg, root, classes, train_dataloader=train, val_dataloader=val, test_dataloader=val)
    sizes = sorted(counts[train].values())
    return [
        f"{sum(sizes)} images in '{train}', {sum(counts[val].values())} in '{val}'",
        f"{len(classes)} classes of {sizes[0]} to {sizes[-1]} training images: "
        + shorten_list(classes),
    ]


def _use_judged(cfg: Config, root: Path, tested: Recorded) -> list[str]:
    """Test on one split, whose folders are the classes of the checkpoint."""
    folder, classes = find_judged(root, _REMEDY), tested.classes or []
    remedy = "give it the same class folders, an empty one for a class without images"
    check_classes(tested.path, classes, folder, _classes(folder), remedy)
    count = sum(_count(folder).values())
    if not count:
        raise UserError(f"'{folder}' has no images: add images ({' '.join(EXTENSIONS)})")
    _set(cfg, root, classes, val_dataloader=folder, test_dataloader=folder)
    return [
        f"{count} images in '{folder}'",
        f"{len(classes)} classes, those of {tested.path}: {shorten_list(classes)}",
    ]


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


def _classes(split: Path) -> list[str]:
    names = subfolders(split)
    hidden = [name for name in names if name.startswith(".")]
    if hidden:
        raise UserError(
            f"'{split / hidden[0]}' is hidden, and would count as a class: remove it from '{split}'"
        )
    loose = [path.name for path in split.iterdir() if path.suffix.lower() in EXTENSIONS]
    if len(names) < 2 or loose:
        raise UserError(
            f"'{split}' has {len(names)} class folder(s) and {len(loose)} images outside of "
            f"them, but 2 or more and 0 are needed: {_REMEDY}"
        )
    return names


def _count(split: Path) -> dict[str, int]:
    """Images by class."""
    counts: dict[str, int] = {}
    for name in list_images(split):
        label = Path(name).parts[0]
        counts[label] = counts.get(label, 0) + 1
    return counts
