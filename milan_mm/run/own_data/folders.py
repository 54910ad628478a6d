"""The folders of a data set that a user brings: its splits and classes."""

from pathlib import Path

from milan_mm.datasets.folders import SPLITS
from milan_mm.errors import MissingFileError
from milan_mm.text import shorten_list


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
    raise MissingFileError(
        f"'{root}' has no folder {' or '.join(SPLITS[split])}, only "
        f"{shorten_list(subfolders(root))}: {remedy}"
    )
