"""A user's own folder of images, label maps and a classes.txt for segmentation."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from milan_mm.datasets.folders import EXTENSIONS, list_images
from milan_mm.datasets.labels import IGNORED
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list

IMAGES = ("images", "img_dir", "image", "imgs")
LABELS = ("annotations", "ann_dir", "labels", "masks", "label", "mask")
DEPTHS = ("depth", "depths", "depth_maps", "annotations")

# Labels without a class are the pixels that nobody labelled, and these have one value, rarely two;
# many such values, or most of the pixels, mean that the names or the files are others.
MAX_VOID_VALUES = 2
MAX_VOID_SHARE = 0.5


def read_classes(path: Path) -> list[str]:
    """The names of the classes: line 1 names label 0, line 2 label 1, and so on.

    Raises:
        MissingFileError: When there is no such file.
        UserError: When it is not a list of classes.
    """
    if not path.is_file():
        raise MissingFileError(
            f"'{path}' does not exist: write the names of the classes into it, one per line, that "
            "of label 0 first"
        )
    names = read_lines(path)
    if "" in names:
        raise UserError(
            f"line {names.index('') + 1} of '{path}' is blank: each line names a class; give "
            "a label without meaning a name too, or remove the line"
        )
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"'{path}' names {shorten_list(doubled)} more than once: give each a name")
    if not 2 <= len(names) < IGNORED:
        raise UserError(
            f"'{path}' names {len(names)} class(es), the limits are 2 and {IGNORED - 1}: the "
            "background is a class as well"
        )
    return names


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without spaces around them and without blank ones at the end.

    Raises:
        UserError: When it is not UTF-8.
    """
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not UTF-8 text: {error}; save it as UTF-8") from None


def find_pairs(
    root: Path,
    split: str,
    names: Sequence[str],
    partners: Sequence[str] = LABELS,
    called: str = "labels",
) -> tuple[Path, Path]:
    """The folders of images and of labels: images/train or train/images, and the like.

    Args:
        split: What messages call it. names: What its folders may be called.
        partners: What the folder of the labels may be called. called: What messages call them.

    Raises:
        MissingFileError: When there is no such pair.
    """
    looked_for = []
    pairs = []
    for name in names:
        for kinds in (IMAGES, partners):
            pairs.append([p for k in kinds for p in (root / k / name, root / name / k)])
    for images, labels in zip(pairs[::2], pairs[1::2], strict=True):
        present = [[path for path in places if path.is_dir()] for places in (images, labels)]
        if all(present):
            return present[0][0], present[1][0]
        looked_for += [images[0], labels[0]]
    raise MissingFileError(
        f"'{root}' has no {split} split of images and {called}: looked for "
        f"{shorten_list(looked_for, len(looked_for))} and other usual names; put the files there"
    )


def pair_names(images: Path, labels: Path) -> tuple[list[str], str, str]:
    """Common names, without suffix, and the suffixes of images and labels.

    Raises:
        MissingFileError: When a file has no partner.
        UserError: When a folder mixes types of files.
    """
    names, suffixes = [], []
    for folder in (images, labels):
        files = list_images(folder)
        counts = Counter(Path(name).suffix for name in files)
        if len(counts) != 1:
            kinds = shorten_list([f"{count} {suffix}" for suffix, count in counts.items()])
            raise UserError(
                f"'{folder}' holds {kinds}: all files must be of one type, one of "
                + " ".join(EXTENSIONS)
            )
        suffixes.append(next(iter(counts)))
        names.append({name.removesuffix(suffixes[-1]) for name in files})
    for i, (folder, other) in enumerate(((images, labels), (labels, images))):
        lonely = sorted(names[i] - names[1 - i])
        if lonely:
            raise MissingFileError(
                f"{len(lonely)} of {len(names[i])} files in '{folder}' have no partner, first "
                f"'{lonely[0]}{suffixes[i]}': add '{other / lonely[0]}{suffixes[1 - i]}', or "
                "remove what has none"
            )
    return sorted(names[0]), suffixes[0], suffixes[1]


def refuse_classless(labels: Path, pixels: np.ndarray, num_classes: int, where: str) -> None:
    """Refuse label maps of which most pixels, or all, have a value without a class.

    Args:
        labels: Their folder.
        pixels: By value, (256,); 255 means "not labelled" and is not a class.
        where: Where most of them are, for the message.

    Raises:
        UserError: With the share.
    """
    share = pixels[num_classes:IGNORED].sum() / pixels.sum()
    if share > MAX_VOID_SHARE:
        raise UserError(
            f"{share:.0%} of the labelled pixels have no class, {where}; the limit is "
            f"{MAX_VOID_SHARE:.0%}: does classes.txt name all labels?"
        )
    if not pixels[:num_classes].any():
        raise UserError(
            f"no pixel of '{labels}' has a class: correct the labels, or the order of classes.txt"
        )
