"""Image files in folders: their endings, the names of splits, and what is there."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from milan_mm.early import CLASS_FOLDERS, check_class_data
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list

Item = TypeVar("Item")
# those that mmpretrain's data sets read
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# photos that no reader here knows, and that would be left out without a word
UNREAD = (
    *(".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".jfif", ".jpe"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw"),
)
MAX_DROPPED_SHARE = 0.01  # of the photos of a folder
_PLAIN, _SUSPECT = 200, re.compile(r"\.\.|^[/\\]|^.:|\0")  # of the names of millions of files
_MAX_NAME, _MAX_STEP = 4095, 255  # bytes of a path, and of a part of it, that Linux takes
# Where a data set with splits has its training images. Images of other splits, and label maps,
# which are images too, must stay out.
_TRAINING = (
    "train",
    "training",
    "train2017",
    "images/train",
    "images/training",
    "images/train2017",
    "images",
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
    return list_photos(folder)[0]


def list_photos(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """As `list_images`, and the photos that no reader takes.

    These are of types in `UNREAD`, or not files: links that lead nowhere, named pipes, devices.
    """
    images, unread = [], []
    for name, is_file in walk(str(folder)):
        if is_image(name) and is_file:
            images.append(name)
        elif is_image(name) or name.lower().endswith(UNREAD):
            unread.append(name)
    return sorted(images), sorted(unread)


def walk(folder: str, inner: str = "") -> Iterator[tuple[str, bool]]:
    """Each entry at any depth that is not a folder, relative to `folder`, and whether it is a file.

    mmengine's walk, which says nothing of what is neither.
    """
    with os.scandir(os.path.join(folder, inner)) as entries:
        for entry in entries:
            name = os.path.join(inner, entry.name)
            if entry.is_dir():
                yield from walk(folder, name)
            elif not entry.name.startswith("."):
                yield name, entry.is_file()


def note_unread(folder: Path, num_images: int, unread: Sequence[str]) -> list[str]:
    """A line about photos that are left out, since no reader knows their type.

    Raises:
        UserError: When they are more than 1 % of all.
    """
    if not unread:
        return []
    total = num_images + len(unread)
    found = (
        f"{len(unread)} of {total} photos in '{folder}' are of a type that is not read, or not "
        f"files, first '{unread[0]}'"
    )
    if len(unread) > MAX_DROPPED_SHARE * total:
        raise UserError(
            f"{found}; the limit is {MAX_DROPPED_SHARE:.0%}: convert them to one of "
            f"{' '.join(EXTENSIONS)}, or remove them"
        )
    return [f"{found}: they are left out"]


def training_images(root: Path) -> tuple[str, list[str], list[str]]:
    """All images of a folder tree, or those of its training split when it has one.

    Returns:
        Where they are inside `root`, their names there, and those of photos that are not read.

    Raises:
        UserError: When there are no images.
    """
    prefixes = [prefix for prefix in _TRAINING if (root / prefix).is_dir()]
    for prefix in [*prefixes, ""]:
        images, unread = list_photos(root / prefix)
        if images:
            return prefix, images, unread
    raise UserError(
        f"--data '{root}' has no images at any depth: give a folder with files of the types "
        + " ".join(EXTENSIONS)
    )


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


def find_class_folders(root: str | Path, split: str, option: str = "--data") -> Path:
    """The folder of a split, which holds one folder per class.

    Args:
        split: 'train' or 'val'.
        option: That names `root`, for messages.

    Raises:
        MissingFileError: When it does not.
    """
    check_class_data(root, option)
    remedy = f"give {option} {CLASS_FOLDERS}"
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
    images = [Path(e.path) for e in found if is_image(e.name) and e.is_file()]
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


def leads_out(name: str) -> bool:
    """Whether a file name is absolute, climbs out of its folder, or is none that a system takes."""
    if 0 < len(name) < _PLAIN and name.isascii() and not _SUSPECT.search(name):
        return False
    steps = name.split("/")
    is_name = 0 < len(name.encode(errors="replace")) <= _MAX_NAME and "\0" not in name
    is_name &= all(len(step.encode(errors="replace")) <= _MAX_STEP for step in steps)
    return (
        not is_name
        or name.startswith(("/", "\\"))
        or name[1:3] in (":\\", ":/")
        or ".." in name.replace("\\", "/").split("/")
    )
