"""Ultralytics YOLO: data.yaml, images, and a .txt per image with a line per object.

A line is `class x y width height` (centre and size) or `class x y x y x y ...` (an outline), as
shares of the image. Which image: Ultralytics takes the size after the turn of EXIF, and reads
images turned, so labels belong to the image as shown; training here reads it so too.

Own code, since `labelformat` 0.1.17 leaves out images without a label file, which are backgrounds,
reads one folder per split, takes the size before the turn, and mixes no boxes with outlines.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from milan_mm.datasets.folders import SPLITS, is_image
from milan_mm.datasets.foreign import read_yaml, split_of, split_of_path, yaml_of
from milan_mm.datasets.pair_folder import read_lines
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import count, shorten_list
from milan_mm.upkeep.convert.boxes import around, thing_of
from milan_mm.upkeep.convert.images import Images, shown_size
from milan_mm.upkeep.convert.samples import ALL, Dropped, Found, Sample, Thing, check_names
from milan_mm.upkeep.convert.source import Source, progress

TOLERANCE = 0.01  # Ultralytics accepts shares from -0.01 to 1.01
_KEYS = SPLITS | dict(test=("test",))
_LABELLED = re.compile(r"\s*\d+([ \t]+[-+.\de]+){4,}\s*$", re.MULTILINE)  # unlike other .txt files


def read_yolo(source: Source) -> Found:
    """Read a folder with or without a data.yaml.

    Raises:
        MissingFileError: When names of classes, or the images of a split, are missing.
        UserError: When data.yaml does not say what it should.
    """
    root = source.root
    file = yaml_of(source.given)
    described = read_yaml(file) if file else {}
    classes = _classes(root, file, described)
    images = Images(source.image_roots)
    dropped, notes = Dropped(), []
    folders = _folders(root, file, described, images) if file else _by_name(images)
    if of_poses := "kpt_shape" in described:
        notes.append("the points of poses are left out, boxes kept")
    if folders.get("train") and folders.get("val") == folders.get("train"):
        notes.append(f"val of '{file}' is the same as train: the images are split anew")
        del folders["val"]
    splits: dict[str, list[Sample]] = {}
    repeated = 0
    for split, places in folders.items():
        paths = _inside(images.paths, places)
        if not paths:
            raise MissingFileError(
                f"no image of the {split} split is in {shorten_list(places)}: add the images, or "
                f"remove '{split}' from '{file}'"
            )
        splits[split], taken, inner = [], set(), _folders_of(places)
        for path in progress(paths, f"reading {split}"):
            labels = labels_of(path, images.roots, root)
            if labels in taken:
                dropped.image("that share a label file with another image", path)
                continue
            taken.add(labels)
            if (size := shown_size(path, dropped)) is None:
                continue
            things = list(_read_labels(labels, size, len(classes), dropped, of_poses))
            unique = list({(t.label, t.box, str(t.mask)): t for t in things}.values())
            repeated += len(things) - len(unique)
            name = images.name_of(path, inner)
            splits[split].append(Sample(path, name, *size, unique))
    _drop_lonely(root, images, dropped)
    if repeated:
        notes.append(f"{count(repeated, 'object')} stated twice count once")
    notes += images.left_out(splits, "of no split")
    return Found(classes, splits, dropped, notes)


def _by_name(images: Images) -> dict[str, list[Path]]:
    """Folders of images by the splits that their names say."""
    found: dict[str, list[Path]] = {}
    for folder in sorted(images.folders):
        root = next(root for root in images.roots if folder.is_relative_to(root))
        named = split_of_path(f"{folder.relative_to(root).as_posix()}/")
        found.setdefault(named or ALL, []).append(folder)
    return found


def _inside(paths: Sequence[Path], places: Sequence[Path]) -> list[Path]:
    """The images that are listed, or in one of the folders."""
    listed, folders = set(places), _folders_of(places)
    return [p for p in paths if p in listed or any(p.is_relative_to(f) for f in folders)]


def _folders_of(places: Sequence[Path]) -> list[Path]:
    return [place for place in places if not is_image(place.name)]


def _drop_lonely(root: Path, images: Images, dropped: Dropped) -> None:
    """Count label files without an image."""
    known = {labels_of(path, images.roots, root) for path in images.paths}
    for path in sorted(root.rglob("*.txt")):
        is_near = "labels" in path.relative_to(root).parts or path.parent in images.folders
        if is_near and path not in known and _LABELLED.match(path.read_text("utf-8", "replace")):
            dropped.image("that are missing, though they have a label file", path)


def labels_of(image: Path, roots: Sequence[Path], root: Path) -> Path:
    """The label file of an image: the last folder `images` of its path is `labels` there.

    Args:
        roots: Of the images, below one of which it is. root: Of the data set.
    """
    own = next(place for place in roots if image.is_relative_to(place))
    parts = list(image.relative_to(own).with_suffix(".txt").parts)
    base = own if own.is_relative_to(root) else root
    folders = parts[:-1]
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        return base.joinpath(*parts[:last], "labels", *parts[last + 1 :])
    if own.name == "images":  # the folder that --images gives
        base = root if base == root else base.parent
        return base.joinpath("labels", *parts)
    return base.joinpath(*parts)


def _classes(root: Path, file: Path | None, described: dict) -> list[str]:
    if file:
        names = described["names"]
        if isinstance(names, dict):
            wanted = list(range(len(names)))
            found = {int(key): name for key, name in names.items() if str(key).isdecimal()}
            if sorted(found) != wanted:
                raise UserError(
                    f"names of '{file}' have the numbers {shorten_list(names)}: number the "
                    f"classes from 0 to {len(names) - 1}"
                )
            names = [found[number] for number in wanted]
        if not isinstance(names, list):
            raise UserError(f"names of '{file}' is not a list: list the names of the classes")
        return check_names(names, file)
    for name in ("classes.txt", "labels/classes.txt", "obj.names"):
        if (path := root / name).is_file():
            return check_names(read_lines(path), path)
    raise MissingFileError(
        f"'{root}' names no classes: add a data.yaml, or a classes.txt with one name per line"
    )


def _folders(root: Path, file: Path, described: dict, images: Images) -> dict[str, list[Path]]:
    """For each split the folders, or the single files, of its images."""
    found: dict[str, list[Path]] = {}
    base = described.get("path")
    for split, keys in _KEYS.items():
        key = next((key for key in keys if described.get(key)), None)
        if key is None:
            continue
        values = described[key] if isinstance(described[key], list) else [described[key]]
        for value in values:
            if not isinstance(value, str):
                raise UserError(f"{key} of '{file}' is not text: give a folder of images")
            place = _place(root, file, base if isinstance(base, str) else "", value)
            if place is None and split == "test":
                continue  # Roboflow names it also where there is none
            if place is None:
                raise MissingFileError(
                    f"{key} of '{file}' is '{value}', which is not inside '{root}': put the images "
                    "and this file into one folder, correct the path, or remove the line"
                )
            places = _listed(place, images) if place.suffix == ".txt" else [place]
            found.setdefault(split, []).extend(places)
    if not found:
        raise UserError(f"'{file}' names neither train nor val: add 'train: images/train'")
    return found


def _place(root: Path, file: Path, base: str, value: str) -> Path | None:
    """A folder or list inside the data set; `path` and leading steps of another machine are cut."""
    steps = [s for s in value.replace("\\", "/").split("/") if s not in ("", ".", "..")]
    own = [s for s in base.replace("\\", "/").split("/") if s not in ("", ".", "..")]
    starts = [own[i:] for i in range(len(own) + 1)]
    for parent in dict.fromkeys((file.parent, root)):
        for start in starts:
            for end in _ends(steps):
                place = parent.joinpath(*start, *end)
                if place.exists() and place.is_relative_to(root):
                    return place
    return root if not steps or steps == own else None


def _ends(steps: list[str]) -> list[list[str]]:
    """A path, and ends of it that say enough: two steps, or the name of a split."""
    ends = [steps[i:] for i in range(1, len(steps))]
    return [steps, *(end for end in ends if len(end) > 1 or split_of(end[0]))]


def _listed(file: Path, images: Images) -> list[Path]:
    """The images that a list file names, one per line."""
    names = list(filter(None, read_lines(file)))
    found = [images.find(name, near=(file.parent, *images.roots)) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise MissingFileError(
            f"{len(missing)} of {len(names)} images of '{file}' are not there, first "
            f"'{missing[0]}': add them, or remove their lines"
        )
    return [path for path in found if path]


def _read_labels(
    path: Path, size: tuple[int, int], num_classes: int, dropped: Dropped, of_poses: bool = False
) -> Iterator[Thing]:
    """The objects of an image; it has none where the file is missing, as Ultralytics has it."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text("utf-8-sig", "replace").splitlines(), start=1):
        where = f"line {number} of '{path}'"
        if not line.strip():
            continue
        try:
            label, *values = (float(word) for word in line.split())
        except ValueError:
            dropped.object("that are not lines of numbers", where)
            continue
        values = values[:4] if of_poses else values
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            dropped.object("of neither 4 numbers (a box) nor 3 or more points", where)
        elif not (label.is_integer() and 0 <= label < num_classes):
            dropped.object(f"of a class that is none of 0 to {num_classes - 1}", where)
        elif not all(math.isfinite(v) and -TOLERANCE <= v <= 1 + TOLERANCE for v in values):
            dropped.object("with coordinates that are not shares of the image, 0 to 1", where)
        elif (thing := _thing(int(label), values, size, dropped, where)) is not None:
            yield thing


def _thing(
    label: int, values: list[float], size: tuple[int, int], dropped: Dropped, where: str
) -> Thing | None:
    if len(values) == 4:
        x, y, w, h = (value * size[i % 2] for i, value in enumerate(values))
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        return thing_of(label, corners, size, dropped, where)
    points = [value * size[i % 2] for i, value in enumerate(values)]
    return thing_of(label, around(points), size, dropped, where, [points])
