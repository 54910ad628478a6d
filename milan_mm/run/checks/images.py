"""Can the images be read, and are those of validation new? A sample is looked into before a start.

All of them are looked into by tools/check_data.py.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import list_dir_or_file

from milan_mm.datasets.folders import is_image, spread_files
from milan_mm.datasets.identity import image_folder
from milan_mm.datasets.inspecting import read_image
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.datasets.overlap import find_overlap
from milan_mm.errors import UserError
from milan_mm.run.checks.files import is_local
from milan_mm.run.config_nodes import config_nodes, datasets_of
from milan_mm.text import shorten_list

SAMPLE = 8  # images that are decoded, per data set
# Of a data set with 1 % of damaged images, which is allowed, a sample has more than 2 in 0.005 %
MAX_DAMAGED = 2
_SPLITS = ("train_dataloader", "val_dataloader")


def check_images(cfg: Config, loaders: Sequence[str]) -> list[str]:
    """Decode some images of each local folder; those of a COCO file: coco.py.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Returns:
        Lines for the log: damaged images, and images that two splits share.

    Raises:
        UserError: When more of a sample cannot be read than training will skip, or one image of an
            evaluation.
    """
    notes = []
    for loader in loaders:
        for folder in dict.fromkeys(_folders(cfg, loader)):
            paths = spread_files(folder, SAMPLE)
            notes += read_sample(folder, paths, loader == "train_dataloader")
    if "train_dataloader" in loaders:
        for val in dict.fromkeys(_folders(cfg, "val_dataloader")):
            for train in dict.fromkeys(_folders(cfg, "train_dataloader")):
                if train == val and _takes_parts(cfg):
                    continue  # of which nobody knows here whether they overlap
                overlap = find_overlap(train, val)
                notes += [str(overlap)] if overlap.found else []
    return notes


def _folders(cfg: Config, loader: str) -> Iterator[Path]:
    """The image folders of a data loader, where no file says which of the images are used."""
    for _, dataset in datasets_of(cfg, loader):
        folder = image_folder(dataset)
        if is_local(dataset) and not dataset.get("ann_file") and folder and folder.is_dir():
            yield folder


def _takes_parts(cfg: Config) -> bool:
    """Whether a split is made by choosing samples of a folder: folds, indices, or file endings."""
    sets = [dataset for loader in _SPLITS for _, dataset in datasets_of(cfg, loader)]
    if len({str(dataset.get("img_suffix")) for dataset in sets}) > 1:
        return True
    nodes = (node for loader in _SPLITS for _, node in config_nodes(cfg[loader].dataset))
    return any("indices" in node or "fold" in node for node in nodes)


def read_sample(
    folder: Path, paths: Sequence[Path], is_training: bool, count: int | None = None
) -> list[str]:
    """Decode some images.

    Args:
        folder: What messages call the data set.
        paths: Of the images.
        is_training: Training skips a few damaged images, an evaluation none.
        count: Images of the data set; None counts those of the folder where that matters.

    Returns:
        A line for the log about damaged images, if any.

    Raises:
        UserError: When more of them cannot be read than will be skipped.
    """
    readings = [(path, read_image(path)) for path in paths]
    faulty = [f"{path}: {reading.error}" for path, reading in readings if reading.error]
    if not faulty:
        return []
    found = f"{len(faulty)} of {len(paths)} images looked into in '{folder}' are damaged, first "
    unreadable = [f"{path}: {r.error}" for path, r in readings if r.size is None]
    limit = _limit(folder, count) if is_training else 0
    if len(unreadable) > limit:
        raise UserError(
            f"{len(unreadable)} of {len(paths)} images looked into in '{folder}' cannot be read, "
            f"the limit is {limit} of all: {unreadable[0]}; repair or remove such images, "
            "tools/check_data.py finds all"
        )
    return [found + shorten_list(faulty, 2)]


def _limit(folder: Path, count: int | None) -> int:
    """How many images of a sample may be damaged; only small folders are counted."""
    enough = round(MAX_DAMAGED / MAX_FAILED_SHARE)
    if count is None:
        images = filter(is_image, list_dir_or_file(str(folder), list_dir=False, recursive=True))
        count = len(list(islice(images, enough)))
    return int(min(count, enough) * MAX_FAILED_SHARE)
