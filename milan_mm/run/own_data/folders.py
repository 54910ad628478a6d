"""What is in a folder: splits, images, and names for error messages."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mmengine.fileio import list_dir_or_file

from milan_mm.errors import MissingFileError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
SPLITS = dict(train=("train", "training"), val=("val", "valid", "validation"))


def list_images(folder: Path) -> list[str]:
    """Images at any depth, relative to `folder` and sorted.

    The same walk as that of mmpretrain's and mmseg's data sets, so that the counts agree: hidden
    files are left out, links to folders are followed.
    """
    files = list_dir_or_file(str(folder), list_dir=False, recursive=True)
    return sorted(name for name in files if name.lower().endswith(EXTENSIONS))


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
        f"'{root}' has no folder {' or '.join(SPLITS[split])}, only {some(subfolders(root))}: "
        f"{remedy}"
    )


def some(names: Iterable[object], limit: int = 5) -> str:
    """At most `limit` names for a message, and how many more there are."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    more = len(names) - limit
    return (shown + (f" and {more} more" if more > 0 else "")) or "nothing"


def twice(names: Sequence[str]) -> list[str]:
    """Names that occur more than once, each once."""
    return sorted({name for name in names if names.count(name) > 1})
