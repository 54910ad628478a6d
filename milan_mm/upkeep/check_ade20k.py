"""ADE20K (SceneParsing) for segmentation: pairs of images and label maps of 150 classes."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmseg.datasets import ADE20KDataset

from milan_mm.datasets.folders import is_image
from milan_mm.datasets.inspecting import read_image
from milan_mm.datasets.labels import IGNORED, label_table, read_labels, values_without_class
from milan_mm.text import shorten_list
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import map_in_processes
from milan_mm.upkeep.reading import list_files, rgb_pixels, spread
from milan_mm.visualization.contact_sheet import NUM_CELLS, Cell, fit_scale
from milan_mm.visualization.label_overlay import blend_classes

NUM_IMAGES = dict(training=20_210, validation=2_000)
CLASSES: tuple[str, ...] = ADE20KDataset.METAINFO["classes"]
PALETTE: list[list[int]] = ADE20KDataset.METAINFO["palette"]
_TABLE = label_table(reduce_zero_label=True, label_map=None)
_AGAIN = "unpack ADEChallengeData2016.zip again"


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


def check_ade20k(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{images,annotations}/{training,validation}, every pixel of every label.

    Files hold class c as c+1, up to 150, and 0 for "none of the classes".

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images under their label maps for the contact sheet.
    """
    sound = {}
    for split, wanted in NUM_IMAGES.items():
        names = _pair(root, split, findings)
        findings.compare_count(f"pairs in {split}", len(names), wanted)
        sound[split] = _check_pairs(root, split, names, findings, num_workers)
    training, validation = ([(split, name) for name in sound[split]] for split in NUM_IMAGES)
    return [_draw(root, *sample) for sample in spread(training, validation, NUM_CELLS)]


def _pair(root: Path, split: str, findings: Findings) -> list[str]:
    """Names, without ending, that have both an image and a label map."""
    stems = {}
    for kind, ending in (("images", ".jpg"), ("annotations", ".png")):
        folder = root / kind / split
        if not folder.is_dir():
            findings.add("folders are missing", _AGAIN, [str(folder)])
            return []
        files = list_files(folder)
        stems[kind] = {name.removesuffix(ending) for name in files if name.endswith(ending)}
        findings.add(
            f"{kind} are not {ending} files, and mmseg looks for no others",
            _AGAIN,
            [f"{kind}/{split}/{n}" for n in files if is_image(n) and not n.endswith(ending)],
        )
    images, labels = stems["images"], stems["annotations"]
    alone = [f"images/{split}/{name}.jpg" for name in sorted(images - labels)]
    findings.add("images have no label map", _AGAIN, alone)
    alone = [f"annotations/{split}/{name}.png" for name in sorted(labels - images)]
    findings.add("label maps have no image", _AGAIN, alone)
    return sorted(images & labels)


def _check_pairs(
    root: Path, split: str, names: list[str], findings: Findings, num_workers: int
) -> list[str]:
    """Read every pair; returns the names of sound ones."""
    unreadable, unlabelled, unequal, classless, reduced = [], [], [], [], []
    sound = []
    total = np.zeros(IGNORED + 1, np.int64)
    read = partial(_read_pair, root, split)
    for name, pair in zip(
        names, map_in_processes(read, names, num_workers, f"reading {split}"), strict=True
    ):
        image, label = f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png"
        wrong = values_without_class(pair.counts, _TABLE, len(CLASSES))
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
        if pair.counts[IGNORED : IGNORED + 1].any():
            reduced.append(label)
        counts = pair.counts[: IGNORED + 1]
        total[: len(counts)] += counts
    findings.add("images cannot be read", _AGAIN, unreadable)
    findings.add("label maps cannot be read", _AGAIN, unlabelled)
    findings.add("label maps have another size than their image", _AGAIN, unequal)
    findings.add(
        f"label maps hold values outside 0..{len(CLASSES)}",
        f"{_AGAIN}: the full ADE20K with its 3,000 names is another data set",
        classless,
    )
    findings.add(
        f"label maps hold {IGNORED}, so their labels are probably shifted by one already",
        f"{_AGAIN}: in its files 0 means no class and 1 means {CLASSES[0]}; the recipes shift",
        reduced,
    )
    _look_at_totals(split, total, findings)
    return sound


def _read_pair(root: Path, split: str, name: str) -> Pair:
    image_path = root / "images" / split / f"{name}.jpg"
    image = read_image(image_path)
    try:
        path = root / "annotations" / split / f"{name}.png"
        labels = read_labels(str(path), str(image_path))
    except ValueError as error:
        return Pair(image.error, str(error), None, np.zeros(0, np.int64))
    sizes = (image.size, labels.shape) if image.size else None
    return Pair(image.error, "", sizes, np.bincount(labels.ravel()))


def _look_at_totals(split: str, total: np.ndarray, findings: Findings) -> None:
    """Which classes never occur, and how much has none; shifted labels show here, too."""
    if not total.sum():
        return
    absent = [f"{CLASSES[c].strip()} ({c + 1})" for c in range(len(CLASSES)) if not total[c + 1]]
    if findings.allow_subset or split == "validation":
        if absent:
            findings.notes.append(
                f"{split}: {len(absent)} of {len(CLASSES)} classes do not occur, the first is "
                f"'{absent[0]}'"
            )
    else:
        findings.add(f"classes occur in no label map of {split}", _AGAIN, absent)
    findings.notes.append(f"{split}: {total[0] / total.sum():.1%} of the pixels have no class (0)")


def _draw(root: Path, split: str, name: str) -> Cell:
    """An image under its labels, at the size of a cell; the caption names the largest classes."""
    pixels = rgb_pixels(root / "images" / split / f"{name}.jpg")
    labels = _TABLE[read_labels(str(root / "annotations" / split / f"{name}.png"))]
    scale = fit_scale(*pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=interpolation)
    shown = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    palette = [(r, g, b) for r, g, b in PALETTE]
    counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)[: len(CLASSES)]
    largest = [CLASSES[c].strip() for c in np.argsort(-counts)[:3] if counts[c]]
    return Cell(blend_classes(canvas, shown, palette), f"{name}: {', '.join(largest)}")
