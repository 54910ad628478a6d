"""Are the same images in training and in validation?

Photos are compared by content, where their names or sizes say that they could be the same. Large
data sets are not listed for it: there a sample is looked for under the same names.
"""

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mmengine.fileio import list_dir_or_file

from milan_mm.datasets.folders import is_image, spread, spread_files
from milan_mm.files import sha256_of

LISTED = 20_000  # images of a split whose sizes are asked for; of more, a sample is looked up
SAMPLE = 500  # validation images whose content is compared
_ALIKE = 20  # training images of one size that are read, since uncompressed files all have one


class Overlap(NamedTuple):
    """What two splits have in common.

    Attributes:
        found: Validation images that are training images too. looked_at: Of so many.
        first: One of them, and the same one in training.
    """

    found: int
    looked_at: int
    first: tuple[Path, Path] | None = None

    def __str__(self) -> str:
        if self.first is None:
            return f"none of {self.looked_at} validation images is a training image"
        val, train = self.first
        return (
            f"{self.found} of {self.looked_at} validation images are training images too, e.g. "
            f"'{val}' is '{train}': numbers on them say little about new images"
        )


def find_overlap(train: Path, val: Path) -> Overlap:
    """Look for validation images among the training images.

    Args:
        train, val: Folder trees.
    """
    own = list(islice(_images(val), LISTED + 1))
    others = list(islice(_images(train), LISTED + 1))
    if max(len(own), len(others)) <= LISTED:
        return compare_listed(train, others, val, sorted(own))
    chosen = spread_files(val, SAMPLE)
    return _count((path, [train / path.relative_to(val)]) for path in chosen)


def compare_listed(
    train: Path, others: Collection[str], val: Path, own: Sequence[str], most: int = SAMPLE
) -> Overlap:
    """As `find_overlap`, of images that are listed already.

    Args:
        others, own: Names inside `train` and inside `val`.
        most: Validation images to look at, spread over all.
    """
    chosen = spread(own, min(len(own), most))
    if max(len(own), len(others)) > LISTED:
        known = set(others)
        return _count((val / name, [train / name] * (name in known)) for name in chosen)
    sizes = defaultdict(list)
    for name in others:
        sizes[_size(train / name)].append(train / name)
    return _count((val / name, sizes.get(_size(val / name), [])[:_ALIKE]) for name in chosen)


def _count(pairs: Iterable[tuple[Path, list[Path]]]) -> Overlap:
    """Compare each validation image with the training images that it could be."""
    looked_at, same = 0, []
    for path, twins in pairs:
        looked_at += 1
        if twin := _same(path, twins):
            same.append((path, twin))
    return Overlap(len(same), looked_at, same[0] if same else None)


def _images(folder: Path) -> Iterator[str]:
    return filter(is_image, list_dir_or_file(str(folder), list_dir=False, recursive=True))


def _same(path: Path, twins: list[Path]) -> Path | None:
    """The first of the other files with the content of this one."""
    size = _size(path)
    alike = [twin for twin in twins if size is not None and _size(twin) == size]
    if not alike:
        return None
    digest = sha256_of(path)
    return next((twin for twin in alike if sha256_of(twin) == digest), None)


def _size(path: Path) -> int | None:
    """Bytes of a file; None where there is none, and of pipes, which would be waited for."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
