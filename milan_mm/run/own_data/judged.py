"""Own data of a test: the classes are those of the checkpoint, and one split is enough."""

from itertools import zip_longest
from pathlib import Path

from milan_mm.datasets.folders import SPLITS, subfolders
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list

# The first of these that is there is tested.
JUDGED = (*SPLITS["val"], "test", "testing")


def find_judged(root: Path, remedy: str) -> Path:
    """The folder of the split to be tested, right below `root`.

    Raises:
        MissingFileError: Names what was looked for and what is there.
    """
    for name in JUDGED:
        if (root / name).is_dir():
            return root / name
    raise MissingFileError(
        f"'{root}' has no folder {' or '.join(JUDGED)}, only {shorten_list(subfolders(root))}: "
        f"{remedy}"
    )


def check_classes(
    checkpoint: str, trained: list[str], where: Path, classes: list[str], remedy: str
) -> None:
    """Compare the classes of a checkpoint with those of the data, names and order.

    Raises:
        UserError: With the first pair that differs.
    """
    if trained == classes:
        return
    pairs = enumerate(zip_longest(trained, classes))
    first, (before, now) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise UserError(
        f"{checkpoint} was trained on {len(trained)} classes and '{where}' has {len(classes)}, "
        f"which differ from label {first} on, '{before}' against '{now}': {remedy}"
    )
