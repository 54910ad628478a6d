"""A class that label files hide behind 255: masks are often stored as 0 and 255.

255 means "not labelled", so such files train a model that answers the other class everywhere, and
its mIoU is 100.
"""

from collections.abc import Sequence

import numpy as np

from milan_mm.datasets.folders import spread
from milan_mm.datasets.labels import IGNORED, UnreadableLabelError, read_labels
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list

MORE = 2000  # label files that are read before a class counts as absent
# Of mmseg's data sets: who states that 255 means "not labelled" is believed. To take a class out of
# the list is no remedy, since the labels after it would move by one.
STATED = "ignore_index"


def refuse_hidden_class(
    files: Sequence[str], counts: np.ndarray, table: np.ndarray, classes: Sequence[str]
) -> None:
    """Refuse training labels without a pixel of some class, where 255 covers pixels.

    Args:
        files: All label files of the training images.
        counts: Pixels of a sample of them by stored value, (256,) or more.
        table: From stored value to class, see `milan_mm.datasets.labels.label_table`.
        classes: Names.

    Raises:
        UserError: Names the classes, and what to do.
    """
    total = np.zeros(IGNORED + 1, np.int64)
    total[: len(counts)] += counts[: IGNORED + 1]
    if not total[IGNORED] or not _absent(total, table, classes):
        return
    looked_at = spread(files, min(len(files), MORE))
    total[:] = 0
    for path in looked_at:
        try:
            found = np.bincount(read_labels(path).ravel(), minlength=IGNORED + 1)
        except (MissingFileError, UnreadableLabelError):
            continue  # counted, and skipped in training
        total += found[: IGNORED + 1]
        if not (absent := _absent(total, table, classes)):
            return
    value = int(np.flatnonzero(table == classes.index(absent[0]))[0])
    raise UserError(
        f"no pixel of {shorten_list(absent)} is in {len(looked_at)} training labels, e.g. "
        f"'{files[0]}', while {IGNORED}, which means 'not labelled', covers "
        f"{total[IGNORED] / total.sum():.0%} of their pixels: write {value} instead of {IGNORED} "
        f"where it stands for '{absent[0]}'; where it does not, and the class just does not occur, "
        f"pass --cfg-options train_dataloader.dataset.{STATED}={IGNORED}"
    )


def _absent(total: np.ndarray, table: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Names of the classes that no counted pixel has."""
    pixels = np.bincount(table, weights=total, minlength=IGNORED + 1)
    return [name for i, name in enumerate(classes) if not pixels[i]]
