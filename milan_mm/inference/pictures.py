"""The pictures that a user means, files, folders or patterns, and what their results are called."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milan_mm.datasets.folders import EXTENSIONS, list_photos
from milan_mm.errors import MissingFileError, UserError

DRAWN, LABELS, DEPTHS = "pictures", "labels", "depth"  # folders of results


@dataclass(frozen=True)
class Picture:
    """A file to predict on.

    Attributes:
        path: Of the file.
        image_id: The number in its name where every name is another number, as COCO's are
            ('000000000139.jpg'); else its place among all pictures, from 1.
        name: Its path inside the folder that all pictures have in common.
        stem: `name` without the ending, for files of results; with it where another picture has
            that stem or name.
    """

    path: str
    image_id: int
    name: str
    stem: str


def find_pictures(
    given: Sequence[str], out: str | Path | None = None
) -> tuple[list[Picture], list[str]]:
    """All pictures that a command line names, each once, in its order.

    Args:
        given: Files of any ending, folders with pictures at any depth, and patterns such as
            'photos/*.jpg'; '**' stands for folders at any depth.
        out: The folder of the results. What was drawn there before is left out.

    Returns:
        The pictures, and photos of types that nothing here reads.

    Raises:
        MissingFileError: When nothing has that name, or matches a pattern.
        UserError: When there are no pictures at all.
    """
    files, unread = [], []
    for name in given:
        for found in _matches(name):
            if os.path.isdir(found):
                images, others = list_photos(found)
                files += [os.path.join(found, image) for image in images]
                unread += [os.path.join(found, other) for other in others]
            else:
                files.append(found)
    paths = list({os.path.abspath(file): file for file in files}.items())
    kept = [path for whole, path in paths if out is None or not _is_result(whole, out)]
    if paths and not kept:
        raise UserError(
            f"{', '.join(given)}: all pictures are where results go, in --out '{out}': give "
            "another --out"
        )
    if not kept and not unread:
        raise UserError(
            f"no pictures in {', '.join(given)}: looked for files that end in "
            f"{' '.join(EXTENSIONS)}"
        )
    return name_pictures(kept), unread


def _is_result(path: str, out: str | Path) -> bool:
    whole, place = os.path.realpath(path), os.path.realpath(out)
    return whole.startswith(tuple(os.path.join(place, name, "") for name in (DRAWN, LABELS)))


def _matches(name: str) -> list[str]:
    if os.path.exists(name):
        return [name]
    if not glob.has_magic(name):
        raise MissingFileError(
            f"'{name}' does not exist: give files, folders or patterns of pictures"
        )
    if found := sorted(glob.glob(name, recursive=True)):
        return found
    raise MissingFileError(f"no picture matches '{name}'")


def name_pictures(shown: Sequence[str]) -> list[Picture]:
    """Names and numbers of some files.

    Args:
        shown: Paths, each once.
    """
    if not shown:
        return []
    paths = [os.path.abspath(path) for path in shown]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [os.path.relpath(path, common) for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]
    uses = Counter(stems) + Counter(names)  # 'a.png' may be a name, and the stem of 'a.png.jpg'
    numbers = [os.path.basename(stem) for stem in stems]
    are_ids = all(number.isdecimal() for number in numbers)
    ids = [int(number) for number in numbers] if are_ids else []
    if len(set(ids)) < len(paths):
        ids = list(range(1, len(paths) + 1))
    return [
        Picture(path, image_id, name, stem if uses[stem] == 1 else name)
        for path, image_id, name, stem in zip(shown, ids, names, stems, strict=True)
    ]
