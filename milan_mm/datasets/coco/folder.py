"""A user's own folder in the COCO format: which annotation file and which images make a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from milan_mm.datasets.coco.faults import Kind
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.coco.reading import read_coco
from milan_mm.datasets.folders import SPLITS, missing_files
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list

# Where tools put the annotations of a split, the commonest first.
_PATTERNS = (
    "annotations/instances_{split}*.json",
    "annotations/{split}*.json",
    "{split}/_annotations.coco.json",  # Roboflow
    "{split}/*.json",
    "instances_{split}*.json",
    "{split}*.json",
)
# what must be right to count classes and objects; the check before a start looks at the rest
NEEDED = (
    Kind.SHARED_CATEGORY,
    Kind.SHARED_IMAGE,
    Kind.TEXT_ID,
    Kind.STRANGE_NAME,
    Kind.INCOMPLETE,
    Kind.UNKNOWN_CATEGORY,
    Kind.NO_BOX,
)


class Split(NamedTuple):
    """An annotation file, and the folder of its images relative to the root."""

    file: CocoFile
    prefix: str

    @property
    def classes(self) -> list[str]:
        return list(self.file.category_names.values())


def find_split(
    root: Path, split: str, max_missing: float | None, names: Sequence[str] = ()
) -> Split:
    """The annotation file of a split whose images exist.

    Args:
        split: 'train' or 'val', or what a message should say.
        max_missing: Share of the images that may be missing, 0 to 1. With None, any but all may
            be missing, and the content of the file may be faulty.
        names: What its folder and file may be called, if not as `SPLITS` says.

    Raises:
        MissingFileError: When there is no annotation file, or none whose images are there.
        UserError: When the only one cannot be read or used, or two fit.
    """
    names = names or SPLITS[split]
    patterns = [p.format(split=name) for p in _PATTERNS for name in names]
    rejected = []
    for pattern in patterns:
        found = []
        for path in sorted(root.glob(pattern)):
            try:
                found.append(_read(root, path, names, max_missing))
            except UserError as error:
                rejected.append(error)
        if len(found) > 1:
            raise UserError(
                f"'{found[0].file.path}' and '{found[1].file.path}' both fit the {split} split: "
                "keep one of them in the folder"
            )
        if found:
            return found[0]
    if rejected:
        raise rejected[0]
    raise MissingFileError(
        f"'{root}' has no COCO annotations of a {split} split: looked for {', '.join(patterns)}; "
        "put the file at one of these places"
    )


def _read(root: Path, path: Path, names: Sequence[str], max_missing: float | None) -> Split:
    file = read_coco(path)
    if max_missing is not None:
        file.refuse(NEEDED, file.problems(with_masks=False))
    prefix = _image_folder(root, file, names)
    if max_missing is not None:
        remedy = "add them, or remove them from the file"
        file.check_images(root / prefix, max_missing, remedy)
    return Split(file, "" if prefix == Path() else str(prefix))


def _image_folder(root: Path, file: CocoFile, split_names: Sequence[str]) -> Path:
    """Where the images are, relative to the root: decided by the file names in the JSON."""
    own = file.path.stem.removeprefix("instances_")  # 'train2017' of instances_train2017.json
    places = [file.path.parent.relative_to(root), Path()]
    places = [*places, Path("images"), Path(own), Path("images", own)]
    for name in split_names:
        places += [Path(name), Path("images", name), Path(name, "images")]
    names = file.names
    if not names:
        raise MissingFileError(f"'{file.path}' has no image with a name inside a folder")
    found = {place: sum((root / place / n).is_file() for n in names[:20]) for place in places}
    best = max(places, key=lambda place: found[place])
    if not found[best] and len(missing_files(names, root / best)) == len(names):
        raise MissingFileError(
            f"none of the {len(names)} images of '{file.path}' is there, e.g. '{names[0]}': looked "
            f"in {shorten_list([root / place for place in found], len(found))}"
        )
    return best
