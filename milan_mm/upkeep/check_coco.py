"""COCO for detection and instance segmentation: two annotation files and their images.

COCO 2017 itself, whose counts and categories are known, or a user's own folder in its format.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmdet.datasets import CocoDataset
from pycocotools import mask as coco_mask

from milan_mm.datasets.coco import usage as coco_usage
from milan_mm.datasets.coco.faults import (
    REMEDIES,
    Kind,
    entry_name,
    incomplete,
    is_polygon,
    size_of,
)
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.coco.folder import find_split
from milan_mm.datasets.coco.lvis import faults_of_lvis
from milan_mm.datasets.coco.reading import take_coco
from milan_mm.datasets.coco.usage import MAX_DROPPED_SHARE, Reason, usage
from milan_mm.datasets.folders import is_image, missing_files
from milan_mm.datasets.image_size import TURN_REMEDY, read_header
from milan_mm.datasets.inspecting import read_image
from milan_mm.datasets.overlap import compare_listed
from milan_mm.errors import MissingFileError, UserError
from milan_mm.palette import class_palette, object_colours
from milan_mm.text import count
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import map_in_processes
from milan_mm.upkeep.reading import list_files, rgb_pixels, spread
from milan_mm.visualization.contact_sheet import NUM_CELLS, Cell, fit_scale
from milan_mm.visualization.drawing import draw_detections

NUM_IMAGES = dict(train=118_287, val=5_000)
CLASSES: tuple[str, ...] = CocoDataset.METAINFO["classes"]
PALETTE: list[tuple[int, int, int]] = CocoDataset.METAINFO["palette"]
LVIS_IMAGES = dict(train=100_170, val=19_809)
# said by the kind of the entry already
_NAMED = (Reason.UNKNOWN_IMAGE, Reason.UNKNOWN_CATEGORY)


class _Source(NamedTuple):
    """Published annotations: what to do about faulty ones, and about missing ones."""

    mend: str
    missing: str


_COCO, _LVIS = (
    _Source(
        f"unpack {archive} again",
        f"unpack {archive} there, or pass the folder above annotations/ as --root",
    )
    for archive in ("annotations_trainval2017.zip", "lvis_v1_{train,val}.json.zip")
)


class _Part(NamedTuple):
    """A split.

    Attributes:
        name: 'train' or 'val'.
        folder: Of its images.
        remedies: What to do about the faults of its file.
        images_remedy: What to do about images that are missing or damaged.
    """

    name: str
    file: CocoFile
    folder: Path
    remedies: Mapping[Kind | Reason, str]
    images_remedy: str

    @property
    def names(self) -> list[str]:
        """Of the images that its file lists, see `CocoFile.names`."""
        return self.file.names


def check_coco(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{train,val}2017 against ROOT/annotations/instances_{train,val}2017.json.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images with boxes and masks for the contact sheet.
    """
    parts = []
    for name in NUM_IMAGES:
        path = root / f"annotations/instances_{name}2017.json"
        if file := _read_published(path, NUM_IMAGES[name], findings, _COCO):
            _compare_categories(file, CLASSES, findings)
            folder = root / f"{name}2017"
            published = dict.fromkeys([*Kind, *Reason], _COCO.mend)
            parts.append(_Part(name, file, folder, published, f"unpack {folder.name}.zip again"))
    if len(parts) == 2:  # a name says which image it is
        train, val = (part.names for part in parts)
        _add_shared(sorted({*train} & {*val}), findings)
    return _check(parts, findings, num_workers)


def check_lvis(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check LVIS v1: ROOT/annotations/lvis_v1_{train,val}.json, and COCO's images in ROOT.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images with boxes and masks for the contact sheet.
    """
    parts = []
    for name, number in LVIS_IMAGES.items():
        path = root / f"annotations/lvis_v1_{name}.json"
        if file := _read_published(path, number, findings, _LVIS):
            published = dict.fromkeys([*Kind, *Reason], _LVIS.mend)
            parts.append(_Part(name, file, root, published, "link COCO's train2017 and val2017"))
            faults = [f"{path.name}: {fault}" for fault in faults_of_lvis(file)]
            findings.add("entries do not have what AP of LVIS needs", _LVIS.mend, faults)
    if len(parts) == 2:
        train, val = parts
        _compare_categories(val.file, train.file.category_names.values(), findings)
        _add_shared(sorted({*train.names} & {*val.names}), findings)
    return _check(parts, findings, num_workers)


def check_coco_folder(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check a user's own folder, as `--data` finds its annotation files and images.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images with boxes and masks for the contact sheet.
    """
    parts: list[_Part] = []
    remedies = REMEDIES | coco_usage.REMEDIES
    for name in NUM_IMAGES:
        try:
            file, prefix = find_split(root, name, None)
        except MissingFileError as error:
            findings.add("splits are missing", "complete the folder", [str(error)])
        except UserError as error:
            findings.add("splits cannot be used", "correct the files", [str(error)])
        else:
            remedy = "add or repair them, or remove them from the file"
            parts.append(_Part(name, take_coco(file.path), root / prefix, remedies, remedy))
    if len(parts) == 2:
        train, val = parts
        _compare_categories(val.file, train.file.category_names.values(), findings)
        # by content: each split may number its images from 0
        overlap = compare_listed(
            train.folder, train.names, val.folder, val.names, most=len(val.names)
        )
        _add_shared([str(overlap)] if overlap.found else [], findings)
    return _check(parts, findings, num_workers)


def _check(parts: list[_Part], findings: Findings, num_workers: int) -> list[Cell]:
    sound = {}
    for part in parts:
        faulty = _check_entries(part, findings)
        known = {name for p in parts if p.folder == part.folder for name in p.names}
        readable = _check_images(part, known, findings, num_workers)
        sound[part.name] = [(part, image) for image in readable if image["id"] not in faulty]
    samples = spread(sound.get("train", []), sound.get("val", []), NUM_CELLS)
    return [_draw(part, image) for part, image in samples]


def _read_published(
    path: Path, num_images: int, findings: Findings, source: _Source
) -> CocoFile | None:
    try:
        file = take_coco(path)
    except MissingFileError:
        findings.add("annotation files are missing", source.missing, [str(path)])
        return None
    except UserError as error:
        findings.add("annotation files are not in COCO's format", source.mend, [str(error)])
        return None
    findings.compare_count(f"images in {path.name}", len(file.images), num_images)
    return file


def _compare_categories(file: CocoFile, wanted: Collection[str], findings: Findings) -> None:
    """mmdet numbers the classes by the order of the file."""
    names = list(file.category_names.values())
    differing = [
        f"{file.path.name}: category {i} is {found!r}, not {other!r}"
        for i, (found, other) in enumerate(zip(names, wanted, strict=False), start=1)
        if found != other
    ]
    if len(names) != len(wanted):
        differing.append(f"{file.path.name}: {len(names)} categories, not {len(wanted)}")
    if wanted is CLASSES:
        findings.add("categories are not COCO's", _COCO.mend, differing)
    else:
        remedy = "give both files the same list"
        findings.add("categories are not those of the training", remedy, differing)


def _add_shared(names: list[str], findings: Findings) -> None:
    remedy = "take them out of one of them, or AP is of images that were learnt from"
    findings.add("images are in both splits", remedy, names)


def _check_entries(part: _Part, findings: Findings) -> set:
    """Everything that the file says; returns the ids of images that cannot be used for it."""
    file, faulty = part.file, set()
    has_masks = any(not incomplete(a) and a.get("segmentation") for a in file.annotations)
    for problem in file.problems(with_masks=has_masks):
        _add(findings, part, problem.kind, [str(problem)])
        faulty.add(problem.image_id)
    found = usage(file, is_evaluation=part.name != "train")
    count = len(found.learnt) + found.num_dropped
    for faults in (found.dropped, found.unlearnable):
        if sum(map(len, faults.values())) <= MAX_DROPPED_SHARE * count:
            continue
        for reason, numbers in faults.items():
            if reason not in _NAMED:
                names = [entry_name(n, file.annotations[n]) for n in numbers.tolist()]
                _add(findings, part, reason, names)
    verb = "are learnt from" if part.name == "train" else "are evaluated"
    findings.notes.append(f"{part.name}: {found.sentence(verb)}")
    if found.empty:
        findings.notes.append(
            f"{part.name}: {found.empty:,} of {len(file.images):,} images have no objects; "
            "training leaves them out where the recipe has filter_cfg.filter_empty_gt=True"
        )
    if file.areas_set:
        findings.notes.append(
            f"{part.name}: {file.areas_set:,} objects without a mask have an area of 0; training "
            "takes width x height of their box"
        )
    return faulty


def _add(findings: Findings, part: _Part, kind: Kind | Reason, names: list[str]) -> None:
    what = f"objects are not learnt from: those {kind}" if isinstance(kind, Reason) else kind
    findings.add(what, part.remedies[kind], [f"{part.file.path.name}: {name}" for name in names])


def _check_images(part: _Part, known: set[str], findings: Findings, num_workers: int) -> list[dict]:
    """Read every image, and compare it with the file; returns those that fit.

    Args:
        known: Names of the folder that any annotation file lists.
    """
    folder = part.folder
    inside = {*part.names}
    listed = {i["file_name"]: i for i in part.file.images if i["file_name"] in inside}
    missing = set(missing_files(listed, folder))
    findings.add(
        "images of the annotation file are not in its folder",
        part.images_remedy,
        [f"{folder.name}/{name}" for name in sorted(missing)],
    )
    there = list_files(folder) if folder.is_dir() else []
    findings.add(
        "images are not in the annotation file, so they will not be used",
        "remove them, or take the annotation file that belongs to the folder",
        [f"{folder.name}/{name}" for name in there if is_image(name) and name not in known],
    )
    names = sorted(name for name in listed if name not in missing)
    paths = [str(folder / name) for name in names]
    unreadable, turned, resized, fitting = [], [], [], []
    readings = map_in_processes(read_image, paths, num_workers, f"reading {folder.name}")
    for name, reading in zip(names, readings, strict=True):
        image = listed[name]
        if reading.error or reading.size is None:
            unreadable.append(f"{folder.name}/{name}: {reading.error}")
        elif reading.size == (image["height"], image["width"]):
            fitting.append(image)
        else:
            height, width = reading.size
            header = read_header(folder / name)
            is_turned = header is not None and header.turned
            if is_turned and reading.size == (image["width"], image["height"]):
                sizes = f"is stored as {height}x{width} and shown as {width}x{height}"
                turned.append(f"{folder.name}/{name} {sizes}")
            else:
                sizes = f"has {width}x{height} pixels, not {size_of(image)}"
                resized.append(f"{folder.name}/{name} {sizes}")
    findings.add("images cannot be read", part.images_remedy, unreadable)
    findings.add(
        "images have another size than the annotation file says",
        "take the images that were annotated, or correct the file",
        resized,
    )
    findings.add(
        "images are turned by their EXIF orientation, and annotated as they are stored",
        TURN_REMEDY,
        turned,
        first=True,  # the cause of boxes outside of their images, and of objects that are dropped
    )
    return fitting


def _draw(part: _Part, image: dict) -> Cell:
    """An image with its boxes, masks and class names, at the size of a cell."""
    file = part.file
    pixels = rgb_pixels(part.folder / image["file_name"])
    scale = fit_scale(*pixels.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image["width"], image["height"]))
    objects = [a for a in file.annotations if not incomplete(a) and a["image_id"] == image["id"]]
    numbers = {category_id: number for number, category_id in enumerate(file.category_names)}
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in objects)]
    masks = [
        cv2.resize(
            _mask(a.get("segmentation"), image), (width, height), interpolation=cv2.INTER_NEAREST
        )
        for a in objects
    ]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=interpolation)
    names = list(file.category_names.values())
    palette = PALETTE if names == list(CLASSES) else class_palette(len(names))
    drawn = draw_detections(
        canvas,
        scale * np.array(boxes).reshape(-1, 4),
        np.array([numbers[a["category_id"]] for a in objects]),
        names,
        object_colours(palette),
        masks=np.array(masks).reshape(-1, height, width).astype(bool),
        enlarge=False,  # the sheet shows it at this size
    )
    return Cell(drawn, f"{part.name} {image['file_name']}: {count(len(objects), 'object')}")


def _mask(mask: list | dict | None, image: dict) -> np.ndarray:
    """(H, W) uint8, 1 inside; empty without a mask."""
    size = image["height"], image["width"]
    if not mask:
        return np.zeros(size, dtype=np.uint8)
    runs = mask
    if isinstance(mask, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(list(filter(is_polygon, mask)), *size))
    elif isinstance(mask["counts"], list):
        runs = coco_mask.frPyObjects(mask, *size)
    return coco_mask.decode(runs)
