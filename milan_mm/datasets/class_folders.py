"""Class folders of a classification, SPLIT/CLASS/*: the names are the classes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from milan_mm.datasets.folders import EXTENSIONS, subfolders
from milan_mm.errors import UserError

REMEDY = "sort your images into DIR/train/CLASS/ and DIR/val/CLASS/"


def class_names(split: Path) -> list[str]:
    """Names of the class folders of a split, in alphabetical order.

    Raises:
        UserError: When there are fewer than two, a hidden one, or images outside of them.
    """
    names = subfolders(split)
    refuse_hidden(split, names)
    loose = [path.name for path in split.iterdir() if path.suffix.lower() in EXTENSIONS]
    if len(names) < 2 or loose:
        raise UserError(
            f"'{split}' has {len(names)} class folder(s) and {len(loose)} images outside of "
            f"them, but 2 or more and 0 are needed: {REMEDY}"
        )
    return names


def refuse_hidden(split: Path, names: Iterable[str]) -> None:
    """Refuse a hidden folder, e.g. an editor's: mmpretrain takes it for a class.

    Raises:
        UserError: Names the first.
    """
    hidden = [name for name in names if name.startswith(".")]
    if hidden:
        raise UserError(
            f"'{split / hidden[0]}' is hidden, and would count as a class: remove it from '{split}'"
        )


def count_classes(images: Iterable[str]) -> Counter[str]:
    """Images by class, from their names inside a split."""
    return Counter(name.partition("/")[0] for name in images)


def refuse_empty(train: Path, classes: Sequence[str], counts: Counter[str]) -> None:
    """Refuse classes without a training image.

    Raises:
        UserError: Names the first.
    """
    empty = [name for name in classes if not counts[name]]
    if empty:
        raise UserError(
            f"{len(empty)} of {len(classes)} classes in '{train}' have no images, first "
            f"'{empty[0]}': add images ({' '.join(EXTENSIONS)}), or remove it from both splits"
        )


def compare_classes(train: Path, classes: Sequence[str], val: Path, other: Sequence[str]) -> None:
    """Refuse splits whose class folders differ.

    Args:
        classes, other: Names of the folders in `train` and in `val`.

    Raises:
        UserError: Names the first that is in one of them only.
    """
    unknown = [name for name in other if name not in set(classes)]
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(other)} classes in '{val}' are not among the {len(classes)} "
            f"in '{train}', first '{unknown[0]}': both splits need the same class folders"
        )
    missing = [name for name in classes if name not in set(other)]
    if missing:
        raise UserError(
            f"'{val}' does not have {len(missing)} of the {len(classes)} classes of '{train}', "
            f"first '{missing[0]}': add images there, or an empty folder for a class without any"
        )
