"""Image files in folders: their endings, the names of splits, and what is there."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from mmengine.fileio import list_dir_or_file

from milan_mm.errors import MissingFileError
from milan_mm.text import shorten_list

Item = TypeVar("Item")
# those that mmpretrain's data sets read
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# photos that no reader here knows, and that would be left out without a word
UNREAD = (
    *(".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".jfif", ".jpe"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".psd", ".dcm", ".npy"),
)
# What the folder of a split may be called, the commonest first; every tool takes the same names.
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


def subfolders(folder: Path) -> list[str]:
    """Names of the folders right below `folder`, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def find_split(root: Path, split: str, remedy: str) -> Path:
    """The folder of a split right below `root`.

    Args:
        split: 'train' or 'val'.
        remedy: What the user can do when it is missing.

    Raises:
        MissingFileError: Names what was looked for and what is there.
    """
    for name in SPLITS[split]:
        if (root / name).is_dir():
            return root / name
    there = shorten_list(subfolders(root)) if root.is_dir() else "nothing"
    raise MissingFileError(
        f"'{root}' has no folder {' or '.join(SPLITS[split])}, only {there}: {remedy}"
    )


def find_class_folders(root: str | Path, split: str) -> Path:
    """The folder of a split, which holds one folder per class.

    Args:
        split: 'train' or 'val'.

    Raises:
        MissingFileError: When it does not.
    """
    remedy = "give --data a folder with train/CLASS/* and val/CLASS/*"
    if not Path(root).is_dir():
        raise MissingFileError(f"data folder '{root}' does not exist: {remedy}")
    folder = find_split(Path(root), split, remedy)
    if not subfolders(folder):
        raise MissingFileError(f"data folder '{folder}' has no folder per class: {remedy}")
    return folder


def spread_files(folder: Path, count: int) -> list[Path]:
    """Up to `count` images of a folder tree, spread over its folders; only these are listed.

    The first and the last folder, and the first and the last image of a folder, are among them.
    """
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    images = [Path(e.path) for e in found if is_image(e.name) and not e.is_dir()]
    folders = [Path(e.path) for e in found if e.is_dir()]
    chosen: list[Path] = []
    places = spread(folders, min(len(folders), count))
    for i, place in enumerate(places):
        chosen += spread_files(place, (i + 1) * count // len(places) - i * count // len(places))
    return spread(images, min(len(images), max(count - len(chosen), 0))) + chosen


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, evenly spaced, the first and the last among them; one is the first."""
    if count < 2:
        return list(items[:count])
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


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
