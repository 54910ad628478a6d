"""A published data set of images and label maps: every image and every label is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from milan_mm.datasets.folders import is_image
from milan_mm.datasets.inspecting import read_image
from milan_mm.datasets.labels import IGNORED, label_table, read_labels, values_without_class
from milan_mm.datasets.pair_folder import read_lines
from milan_mm.text import shorten_list
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import map_in_processes
from milan_mm.upkeep.reading import list_files, rgb_pixels, spread
from milan_mm.visualization.contact_sheet import NUM_CELLS, Cell, fit_scale
from milan_mm.visualization.label_overlay import blend_classes


class Split(NamedTuple):
    """Where a split is, relative to the data set.

    Attributes:
        images, labels: Folders; those of several splits may be one, if there are lists.
        pairs: Of the published data set.
        names: A text file with a name on each line; '' takes every file.
    """

    images: str
    labels: str
    pairs: int
    names: str = ""


@dataclass(frozen=True)
class Layout:
    """A published data set.

    Attributes:
        classes, palette: Of mmseg's data set.
        splits: By name.
        image_suffix, label_suffix: Endings of files that belong together.
        reduces: Files hold class c as c+1, and 0 for "none of the classes"; else c, and 255.
        again: What to do about files that are missing or damaged.
        other_values: What to do about values without a class.
        remake: What to do about labels that are missing; '' is `again`. Takes the data set.
    """

    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    splits: dict[str, Split]
    image_suffix: str
    label_suffix: str
    reduces: bool
    again: str
    other_values: str
    remake: Callable[[Path], str] = field(default=lambda _: "")

    @property
    def table(self) -> np.ndarray:
        """(256,) uint8: from stored value to class, 255 for none."""
        return label_table(self.reduces, label_map=None)

    @property
    def first(self) -> int:
        """The value of the first class in the files."""
        return int(self.reduces)


class Pair(NamedTuple):
    """What reading an image and its label map gave.

    Attributes:
        image_error, label_error: Why one of them cannot be used, or ''.
        sizes: (height, width) of the image and of the label map, where both could be read.
        counts: Pixels of the label map by stored value, up to the largest that occurs.
    """

    image_error: str
    label_error: str
    sizes: tuple[tuple[int, int], tuple[int, int]] | None
    counts: np.ndarray


def check_label_maps(
    layout: Layout, root: Path, findings: Findings, num_workers: int
) -> list[Cell]:
    """Check every image and every pixel of every label of all splits.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images under their label maps for the contact sheet.
    """
    sound = {}
    for split, place in layout.splits.items():
        names = _pair(layout, root, split, findings)
        findings.compare_count(f"pairs in {split}", len(names), place.pairs)
        sound[split] = _check_pairs(layout, root, split, names, findings, num_workers)
    training, validation = ([(s, name) for name in names] for s, names in sound.items())
    chosen = spread(training, validation, NUM_CELLS)
    return [_draw(layout, root, *sample) for sample in chosen]


def _pair(layout: Layout, root: Path, split: str, findings: Findings) -> list[str]:
    """Names, without ending, that have both an image and a label map."""
    place = layout.splits[split]
    remake = layout.remake(root) or layout.again
    found = {}
    for kind, folder, ending in (
        ("images", place.images, layout.image_suffix),
        ("annotations", place.labels, layout.label_suffix),
    ):
        remedy = layout.again if kind == "images" else remake
        if not (root / folder).is_dir():
            findings.add("folders are missing", remedy, [str(root / folder)])
            return []
        files = list_files(root / folder, nested=True)
        found[kind] = {name.removesuffix(ending) for name in files if name.endswith(ending)}
        if kind == "images":
            wrong = [f"{folder}/{n}" for n in files if is_image(n) and not n.endswith(ending)]
            findings.add(
                f"images are not {ending} files, and mmseg looks for no others",
                layout.again,
                wrong,
            )
        elif layout.label_suffix == ".png":
            wrong = [f"{folder}/{n}" for n in files if is_image(n) and not n.endswith(ending)]
            findings.add(
                f"annotations are not {ending} files, and mmseg looks for no others",
                layout.again,
                wrong,
            )
    images, labels = found["images"], found["annotations"]
    if place.names:
        if not (root / place.names).is_file():
            findings.add("lists of names are missing", remake, [str(root / place.names)])
            return []
        listed = set(read_lines(root / place.names))
        absent = [f"{place.names}: {name}" for name in sorted(listed - images)]
        findings.add("lists name images that are not there", layout.again, absent)
        images, labels = images & listed, labels & listed
    alone = [f"{place.images}/{n}{layout.image_suffix}" for n in sorted(images - labels)]
    findings.add("images have no label map", remake, alone)
    alone = [f"{place.labels}/{n}{layout.label_suffix}" for n in sorted(labels - images)]
    findings.add("label maps have no image", layout.again, alone)
    return sorted(images & labels)


def _check_pairs(
    layout: Layout,
    root: Path,
    split: str,
    names: list[str],
    findings: Findings,
    num_workers: int,
) -> list[str]:
    """Read every pair; returns the names of sound ones."""
    unreadable, unlabelled, unequal, classless, reduced = [], [], [], [], []
    sound = []
    total = np.zeros(IGNORED + 1, np.int64)
    last = layout.first + len(layout.classes) - 1
    read = partial(_read_pair, layout, root, split)
    for name, pair in zip(
        names, map_in_processes(read, names, num_workers, f"reading {split}"), strict=True
    ):
        image, label = _paths(layout, split, name)
        wrong = values_without_class(pair.counts, layout.table, len(layout.classes))
        if pair.image_error:
            unreadable.append(f"{image}: {pair.image_error}")
        if pair.label_error:
            unlabelled.append(pair.label_error)
        if pair.sizes and pair.sizes[0] != pair.sizes[1]:
            (height, width), (label_height, label_width) = pair.sizes
            unequal.append(
                f"{label} has {label_width}x{label_height} pixels, its image {width}x{height}"
            )
        elif wrong:
            classless.append(f"{label} holds {shorten_list(wrong)}")
        elif pair.sizes:
            sound.append(name)
        if layout.reduces and pair.counts[IGNORED : IGNORED + 1].any():
            reduced.append(label)
        counts = pair.counts[: IGNORED + 1]
        total[: len(counts)] += counts
    findings.add("images cannot be read", layout.again, unreadable)
    findings.add("label maps cannot be read", layout.again, unlabelled)
    findings.add("label maps have another size than their image", layout.again, unequal)
    kind = "0" if layout.reduces else f"{layout.first}"
    allowed = f"{kind}..{last}" + ("" if layout.reduces else f" and {IGNORED}")
    other_values = layout.other_values.format(remake=layout.remake(root))
    findings.add(f"label maps hold values outside {allowed}", other_values, classless)
    findings.add(
        f"label maps hold {IGNORED}, so their labels are probably shifted by one already",
        f"{layout.again}: in its files 0 means no class and 1 means {layout.classes[0]}; the "
        "recipes shift",
        reduced,
    )
    _look_at_totals(layout, split, total, findings)
    return sound


def _paths(layout: Layout, split: str, name: str) -> tuple[str, str]:
    """Image and label map, relative to the data set."""
    place = layout.splits[split]
    return (
        f"{place.images}/{name}{layout.image_suffix}",
        f"{place.labels}/{name}{layout.label_suffix}",
    )


def _read_pair(layout: Layout, root: Path, split: str, name: str) -> Pair:
    image_path, label_path = (root / path for path in _paths(layout, split, name))
    image = read_image(image_path)
    try:
        labels = read_labels(str(label_path), str(image_path))
    except ValueError as error:
        return Pair(image.error, str(error), None, np.zeros(0, np.int64))
    sizes = (image.size, labels.shape) if image.size else None
    return Pair(image.error, "", sizes, np.bincount(labels.ravel()))


def _look_at_totals(layout: Layout, split: str, total: np.ndarray, findings: Findings) -> None:
    """Which classes never occur, and how much has none; shifted labels show here, too."""
    if not total.sum():
        return
    first, names = layout.first, layout.classes
    absent = [
        f"{name.strip()} ({c + first})" for c, name in enumerate(names) if not total[c + first]
    ]
    if findings.allow_subset or split != next(iter(layout.splits)):
        if absent:
            findings.notes.append(
                f"{split}: {len(absent)} of {len(names)} classes do not occur, the first is "
                f"'{absent[0]}'"
            )
    else:
        findings.add(f"classes occur in no label map of {split}", layout.again, absent)
    void = 0 if layout.reduces else IGNORED
    findings.notes.append(
        f"{split}: {total[void] / total.sum():.1%} of the pixels have no class ({void})"
    )


def _draw(layout: Layout, root: Path, split: str, name: str) -> Cell:
    """An image under its labels, at the size of a cell; the caption names the largest classes."""
    image, label = _paths(layout, split, name)
    pixels = rgb_pixels(root / image)
    labels = layout.table[read_labels(str(root / label))]
    scale = fit_scale(*pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=interpolation)
    shown = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    palette = [(r, g, b) for r, g, b in layout.palette]
    classes = layout.classes
    counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)[: len(classes)]
    largest = [classes[c].strip() for c in np.argsort(-counts)[:3] if counts[c]]
    caption = f"{name.rpartition('/')[2]}: {', '.join(largest)}"
    return Cell(blend_classes(canvas, shown, palette), caption)
