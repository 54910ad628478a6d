"""A user's own folders, laid out as `--data` reads them: images, class folders, label pairs.

The rules are those of a training's start, see `milan_mm/datasets`; here every file is looked into,
and faults are collected instead of ending at the first. COCO folders: check_coco.py.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from milan_mm.datasets.class_folders import (
    REMEDY,
    class_names,
    compare_classes,
    count_classes,
    refuse_empty,
)
from milan_mm.datasets.folders import (
    SPLITS,
    find_split,
    list_photos,
    note_unread,
    training_images,
)
from milan_mm.datasets.hidden_class import refuse_hidden_class
from milan_mm.datasets.inspecting import read_image
from milan_mm.datasets.labels import IGNORED, label_table, read_labels
from milan_mm.datasets.overlap import find_overlap
from milan_mm.datasets.pair_folder import (
    MAX_VOID_VALUES,
    find_pairs,
    pair_names,
    read_classes,
    refuse_classless,
)
from milan_mm.errors import UserError
from milan_mm.palette import Colour, class_palette
from milan_mm.text import shorten_list
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import map_in_processes
from milan_mm.upkeep.reading import rgb_pixels, spread
from milan_mm.visualization.contact_sheet import CELL_SIZE, LEGEND, NUM_CELLS, Cell
from milan_mm.visualization.label_overlay import blend_classes, legend
from milan_mm.visualization.lettering import MIN_TEXT

_LAYOUT = "the folder does not fit"
_CORRECT = "correct what each line names"
_REPAIR = "repair or remove them: training skips up to 1 %, evaluation none"
_OVERLAP = "keep them in one of the splits"
_BACKGROUNDS = ("background", "bg", "other", "unlabeled", "unlabelled", "none", "void")
_UNLABELLED = (0, 0, 0)  # of pixels without a class, from which nothing is learnt
_MOST = 0.8  # of the labelled pixels; a class of more is said, since a constant answer is good then
Result = TypeVar("Result")
Colours = Sequence[Colour | None]


def check_images(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check a tree of images for pretraining.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images for the contact sheet.
    """
    found = _try(findings, training_images, root)
    if found is None:
        return []
    prefix, images, unread = found
    findings.counts.append(f"images in {root / prefix}: {len(images):,}")
    findings.notes += _try(findings, note_unread, root / prefix, len(images), unread) or []
    sound = _decode(root / prefix, images, findings, num_workers)
    return [Cell(rgb_pixels(root / prefix / n), n) for n in spread(sound, [], NUM_CELLS)]


def check_class_folders(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{train,val}/CLASS/*; see `check_images`."""
    splits, classes, sound = {}, {}, {}
    for name in SPLITS:
        if (folder := _try(findings, find_split, root, name, REMEDY)) is None:
            continue
        splits[name] = folder
        classes[name] = _try(findings, class_names, folder)
        images, unread = list_photos(folder)
        findings.counts.append(f"images in {folder}: {len(images):,}")
        findings.notes += _try(findings, note_unread, folder, len(images), unread) or []
        if name == "train" and classes[name]:
            _try(findings, refuse_empty, folder, classes[name], count_classes(images))
        if not images:
            findings.add("splits have no images", "move some there", [str(folder)])
        sound[name] = [folder / n for n in _decode(folder, images, findings, num_workers)]
    if all(classes.get(name) for name in SPLITS):
        (train, names), (val, others) = ((splits[n], classes[n]) for n in SPLITS)
        _try(findings, compare_classes, train, names, val, others)
    _compare_splits(list(splits.values()), findings)
    chosen = spread(sound.get("train", []), sound.get("val", []), NUM_CELLS)
    return [Cell(rgb_pixels(path), str(path.relative_to(root))) for path in chosen]


def check_label_pairs(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{images,annotations}/{train,val} and ROOT/classes.txt; see `check_images`."""
    classes = _try(findings, read_classes, root / "classes.txt") or []
    folders: list[Path] = []
    sound: dict[str, list[tuple[Path, Path]]] = {}
    total = np.zeros(IGNORED + 1, np.int64)
    for name, names in SPLITS.items():
        if (pair := _try(findings, find_pairs, root, name, names)) is None:
            continue
        images, labels = pair
        folders.append(images)
        if (paired := _try(findings, pair_names, images, labels)) is None:
            continue
        stems, image_suffix, label_suffix = paired
        findings.counts.append(f"pairs in {images} and {labels}: {len(stems):,}")
        files = [stem + image_suffix for stem in stems]
        sizes: dict[str, tuple[int, int]] = {}
        readable = set(_decode(images, files, findings, num_workers, sizes))
        wanted = {stem + label_suffix: sizes.get(stem + image_suffix) for stem in stems}
        pixels, faulty, single = _check_labels(labels, wanted, len(classes), findings, num_workers)
        total += pixels
        sound[name] = [
            (images / (stem + image_suffix), labels / (stem + label_suffix))
            for stem in stems
            if stem + image_suffix in readable and stem + label_suffix not in faulty
        ]
        if classes:
            _look_at_totals(name, [str(labels / n) for n in wanted], pixels, classes, findings)
            _look_at_cover(name, pixels, single, len(wanted), classes, findings)
    _compare_splits(folders, findings)
    chosen = spread(sound.get("train", []), sound.get("val", []), NUM_CELLS - 1)
    plain = _plain(total, classes)
    colours = [None if c in plain else rgb for c, rgb in enumerate(class_palette(len(classes)))]
    cells = [_draw(*pair, classes, colours) for pair in chosen]
    return [*cells, Cell(_legend(total, classes, colours), LEGEND)] if cells else []


def _plain(pixels: np.ndarray, classes: Sequence[str]) -> set[int]:
    """Classes that are not painted: one of most pixels, and a background, would hide the photos."""
    found = set(np.flatnonzero(2 * pixels[: len(classes)] > pixels[: len(classes)].sum()).tolist())
    return found | ({0} if classes and classes[0].lower().strip("_") in _BACKGROUNDS else set())


def _draw(image: Path, label: Path, classes: Sequence[str], colours: Colours) -> Cell:
    """An image under its labels; the caption names the largest classes."""
    labels = read_labels(str(label)).astype(np.int64)
    shown = np.where(labels < len(classes), labels, IGNORED)
    counts = np.bincount(shown.ravel(), minlength=IGNORED + 1)[: len(classes)]
    largest = [classes[c] for c in np.argsort(-counts)[:3] if counts[c]]
    photo = Image.fromarray(np.ascontiguousarray(rgb_pixels(image)))
    small = ImageOps.contain(photo, CELL_SIZE, Image.Resampling.BILINEAR)
    picture = blend_classes(np.asarray(small), shown, colours, unlabelled=_UNLABELLED)
    return Cell(picture, f"{image.name}: {', '.join(largest)}")


def _legend(pixels: np.ndarray, classes: Sequence[str], colours: Colours) -> np.ndarray:
    """The classes that occur, the largest first, and what has no class."""
    shares = (pixels / pixels.sum()).tolist()
    order = np.argsort(-pixels[: len(classes)], kind="stable").tolist()
    entries = [(f"{c} {classes[c]}", shares[c], colours[c]) for c in order if pixels[c]]
    if without := sum(shares[len(classes) :]):
        entries.insert(0, ("not labelled", without, _UNLABELLED))
    return legend(entries, CELL_SIZE[0], MIN_TEXT, most_rows=10)


def _try(findings: Findings, function: Callable[..., Result], *arguments: object) -> Result | None:
    """A rule of the start of training: what it refuses is a fault, with its own remedy."""
    try:
        return function(*arguments)
    except UserError as error:
        findings.add(_LAYOUT, _CORRECT, [str(error)])
        return None


def _decode(
    folder: Path,
    names: Sequence[str],
    findings: Findings,
    num_workers: int,
    sizes: dict[str, tuple[int, int]] | None = None,
) -> list[str]:
    """Read every image; returns the names of sound ones, and fills in their sizes."""
    paths = [str(folder / name) for name in names]
    readings = list(map_in_processes(read_image, paths, num_workers, f"reading {folder.name}"))
    pairs = list(zip(names, readings, strict=True))
    faulty = [f"{folder / name}: {reading.error}" for name, reading in pairs if reading.error]
    findings.add("images are damaged or cannot be read", _REPAIR, faulty)
    if sizes is not None:
        sizes |= {name: reading.size for name, reading in pairs if reading.size}
    return [name for name, reading in pairs if not reading.error]


def _compare_splits(folders: Sequence[Path], findings: Findings) -> None:
    if len(folders) == 2 and (overlap := find_overlap(*folders)).found:
        findings.add("splits share images", _OVERLAP, [str(overlap)])


def _check_labels(
    folder: Path,
    wanted: dict[str, tuple[int, int] | None],
    num_classes: int,
    findings: Findings,
    num_workers: int,
) -> tuple[np.ndarray, set[str], list[str]]:
    """Read every label map.

    Returns:
        Their pixels by value, (256,), the names of faulty ones, and of those of a single class.
    """
    unreadable, resized, wide, classless, single = [], [], [], [], []
    faulty = set()
    total = np.zeros(IGNORED + 1, np.int64)
    read = partial(_read_label, folder)
    readings = map_in_processes(read, list(wanted), num_workers, f"reading {folder.name}")
    for (name, size), (error, found, counts) in zip(wanted.items(), readings, strict=True):
        if error:
            unreadable.append(error)
        if found and size and found != size:
            resized.append(f"{folder / name} has {found[::-1]} pixels, its image {size[::-1]}")
        if len(counts) > IGNORED + 1:
            wide.append(f"{folder / name} holds {shorten_list(np.flatnonzero(counts)[-2:])}")
        strange = np.flatnonzero(counts[num_classes:IGNORED]) + num_classes
        if num_classes and len(strange) > MAX_VOID_VALUES:
            classless.append(f"{folder / name} holds {shorten_list(strange)}")
        if error or size != found:
            faulty.add(name)
        if np.count_nonzero(counts[:num_classes]) == 1:
            single.append(name)
        total[: len(counts)] += counts[: IGNORED + 1]
    findings.add("label maps cannot be read", _REPAIR, unreadable)
    findings.add("label maps have another size than their image", "give both one size", resized)
    findings.add(f"label maps hold values above {IGNORED}", "save them with 8 bits", wide)
    findings.add(
        f"label maps hold more than {MAX_VOID_VALUES} values without a class",
        "correct classes.txt or the labels",
        classless,
    )
    return total, faulty, single


def _read_label(folder: Path, name: str) -> tuple[str, tuple[int, ...], np.ndarray]:
    """Why a label map cannot be used, or its size and its pixels by value."""
    try:
        labels = read_labels(str(folder / name))
    except UserError as error:
        return str(error), (), np.zeros(0, np.int64)
    return "", labels.shape, np.bincount(labels.ravel())


def _look_at_totals(
    split: str, files: list[str], pixels: np.ndarray, classes: list[str], findings: Findings
) -> None:
    if not pixels.sum():
        return
    labels = Path(files[0]).parent
    _try(findings, refuse_classless, labels, pixels, len(classes), f"in '{labels}'")
    table = label_table(False, dict.fromkeys(range(len(classes), IGNORED), IGNORED))
    if split == "train":
        _try(findings, refuse_hidden_class, files, pixels, table, classes)
    absent = [name for name, count in zip(classes, pixels, strict=False) if not count]
    void = pixels[len(classes) :].sum() / pixels.sum()
    findings.notes.append(
        f"{split}: {void:.1%} of the pixels are not labelled"
        + (f"; no pixel of {shorten_list(absent)}" if absent else "")
    )


def _look_at_cover(
    split: str,
    pixels: np.ndarray,
    single: list[str],
    number: int,
    classes: list[str],
    findings: Findings,
) -> None:
    """Say whether one class covers nearly everything, or whole label maps."""
    labelled = pixels[: len(classes)]
    if not labelled.any():
        return
    largest = int(labelled.argmax())
    share = labelled[largest] / labelled.sum()
    what = f"'{classes[largest]}' (label {largest})"
    if share == 1:
        remedy = "look at a label file, and at the order of classes.txt"
        findings.add("label maps hold a single class", remedy, [f"{split}: nothing but {what}"])
    elif share > _MOST:
        findings.notes.append(
            f"{split}: {what} covers {share:.1%} of the labelled pixels: a model that answers "
            "nothing else looks good in aAcc; compare mIoU"
        )
    if single and share < 1:
        findings.notes.append(
            f"{split}: {len(single):,} of {number:,} label maps hold a single class, first "
            f"'{single[0]}'"
        )
