"""Image files in folders: their endings, and which of them are there."""

import os
from collections.abc import Iterable
from pathlib import Path

from mmengine.fileio import list_dir_or_file

from milan_mm.errors import MissingFileError

# those that mmpretrain's data sets read
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

# what folders of a split are called
SPLITS = dict(train=("train", "training"), val=("val", "valid", "validation"))


def is_image(name: str) -> bool:
    """Whether a name has the ending of an image."""
    return name.lower().endswith(EXTENSIONS)


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Images at any depth, relative to `folder` and sorted.

    The same walk as that of mmpretrain's and mmseg's data sets, so that the counts agree: hidden
    files are left out, links to folders are followed.
    """
    return sorted(filter(is_image, list_dir_or_file(str(folder), list_dir=False, recursive=True)))


def find_class_folders(root: str | Path, part: str) -> Path:
    """ROOT/PART, which holds one folder per class.

    Raises:
        MissingFileError: When it does not.
    """
    folder = Path(root, part)
    if not folder.is_dir() or not any(path.is_dir() for path in folder.iterdir()):
        raise MissingFileError(
            f"data folder '{folder}' with one folder per class does not exist: give --data a "
            "folder with train/CLASS/* and val/CLASS/*"
        )
    return folder


def missing_files(names: Iterable[str], folder: str | os.PathLike[str] = "") -> list[str]:
    """Those of the names, relative to `folder`, that do not exist.

    Each folder is listed once, which is faster than asking for every file of a network's disk.
    """
    listed: dict[str, set[str]] = {}
    missing = []
    for name in names:
        parent, base = os.path.split(os.path.abspath(os.path.join(folder, name)))
        if parent not in listed:
            listed[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        if base not in listed[parent]:
            missing.append(name)
    return missing
