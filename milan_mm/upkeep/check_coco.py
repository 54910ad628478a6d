"""COCO 2017 for detection and instance segmentation: two annotation files and their images."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeGuard

import cv2
import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import each
from milan_mm.upkeep.reading import (
    is_image,
    list_files,
    read_image,
    rgb_pixels,
    spread,
)
from milan_mm.visualization.contact_sheet import NUM_CELLS, Cell, fit_scale
from milan_mm.visualization.dense import draw_instances

NUM_IMAGES = dict(train=118_287, val=5_000)
CLASSES: tuple[str, ...] = CocoDataset.METAINFO["classes"]
PALETTE: list[tuple[int, int, int]] = CocoDataset.METAINFO["palette"]
MARGIN = 2.0  # pixels that a box may reach beyond its image, by rounding
_FIELDS = ("id", "image_id", "category_id", "bbox", "area", "segmentation")
_MEND = "unpack annotations_trainval2017.zip again"
_MISSING = (
    "unpack annotations_trainval2017.zip there, or pass the folder above annotations/ as --root"
)


@dataclass
class Split:
    """One annotation file, as far as it can be used.

    Attributes:
        name: 'train' or 'val'. images: By id. objects: Annotations by the id of their image.
        category_names: By id.
    """

    name: str
    images: dict[int, dict]
    objects: dict[int, list[dict]]
    category_names: dict[int, str]


def check_coco(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{train,val}2017 against ROOT/annotations/instances_{train,val}2017.json.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images with boxes and masks for the contact sheet.
    """
    splits = [split for name in NUM_IMAGES if (split := _read_split(root, name, findings))]
    _check_apart(splits, findings)
    readable = []
    for split in splits:
        _check_objects(split, findings)
        readable.append(_check_images(root, split, findings, num_workers))
    samples = dict(zip([split.name for split in splits], readable, strict=True))
    return [
        _draw(root / f"{split.name}2017", split, split.images[i])
        for split, i in spread(samples.get("train", []), samples.get("val", []), NUM_CELLS)
    ]


def _read_split(root: Path, name: str, findings: Findings) -> Split | None:
    path = root / f"annotations/instances_{name}2017.json"
    if not path.is_file():
        findings.add("annotation files are missing", _MISSING, [str(path)])
        return None
    try:
        content = json.loads(path.read_bytes())
        parts = [list(content[key]) for key in ("images", "annotations", "categories")]
        images = {image["id"]: image for image in parts[0]}
        counted = Counter(image["id"] for image in parts[0])
        facts = [(image["file_name"], image["height"], image["width"]) for image in parts[0]]
        names = {category["id"]: category["name"] for category in parts[2]}
    except (ValueError, TypeError, KeyError) as error:
        detail = f"{path}: {type(error).__name__}: {error}"
        findings.add("annotation files are not in COCO's format", _MEND, [detail])
        return None
    findings.expect(f"images in {path.name}", len(parts[0]), NUM_IMAGES[name])
    _add(findings, "images share an id", path, [f"id {i}" for i, n in counted.items() if n > 1])
    _add(findings, "images have no size", path, [str(fact) for fact in facts if not all(fact)])
    # mmdet numbers the classes by the order of the file
    found = [category["name"] for category in parts[2]]
    if tuple(found) != CLASSES:
        differing = [
            f"category {i + 1} is {a!r}, not {b!r}"
            for i, (a, b) in enumerate(zip(found, CLASSES, strict=False))
            if a != b
        ]
        if len(found) != len(CLASSES):
            differing.append(f"{len(found)} categories, not {len(CLASSES)}")
        _add(findings, "categories are not COCO's", path, differing)
    objects: dict[int, list[dict]] = defaultdict(list)
    incomplete = []
    for i, annotation in enumerate(parts[1]):
        if not isinstance(annotation, dict):
            incomplete.append(f"annotation number {i} is {annotation!r}")
            continue
        lacking = [key for key in _FIELDS if annotation.get(key) is None]
        lacking += [key for key in _FIELDS[:3] if isinstance(annotation.get(key), list | dict)]
        if lacking:
            incomplete.append(f"annotation {annotation.get('id', f'number {i}')} has no {lacking}")
        else:
            objects[annotation["image_id"]].append(annotation)
    _add(findings, "annotations are incomplete", path, incomplete)
    return Split(name, images, objects, names)


def _add(findings: Findings, kind: str, path: Path, names: list[str]) -> None:
    findings.add(kind, _MEND, [f"{path.name}: {name}" for name in names])


def _check_apart(splits: list[Split], findings: Findings) -> None:
    """No image of validation is in training."""
    if len(splits) == 2:
        train, val = ({image["file_name"] for image in s.images.values()} for s in splits)
        findings.add("images are in both splits", _MEND, sorted(train & val))


def _check_objects(split: Split, findings: Findings) -> None:
    """Each annotation has a known image and class, a box inside the image, and a mask."""
    path = Path(f"instances_{split.name}2017.json")
    everything = [annotation for group in split.objects.values() for annotation in group]
    wrong: dict[str, list[str]] = defaultdict(list)
    seen: set[int] = set()
    degenerate = 0
    for annotation in everything:
        name = f"annotation {annotation['id']}"
        if annotation["id"] in seen:
            wrong["annotations share an id"].append(name)
        seen.add(annotation["id"])
        if annotation["category_id"] not in split.category_names:
            wrong["annotations have a category that the file does not list"].append(
                f"{name} has category {annotation['category_id']}"
            )
        image = split.images.get(annotation["image_id"])
        if image is None:
            wrong["annotations have an image that the file does not list"].append(
                f"{name} has image {annotation['image_id']}"
            )
            continue
        box = annotation["bbox"]
        if not _is_inside(box, image):
            wrong["boxes are not inside their image"].append(
                f"{name} has [x, y, width, height] {box} on {image['width']}x{image['height']}"
            )
        elif min(box[2:]) < 1:
            degenerate += 1
        if problem := _mask_problem(annotation["segmentation"], image):
            wrong["masks do not fit their image"].append(f"{name} {problem}")
    for kind, names in wrong.items():
        _add(findings, kind, path, names)
    empty = sum(i not in split.objects for i in split.images)
    crowds = sum(bool(annotation.get("iscrowd")) for annotation in everything)
    findings.notes.append(
        f"{split.name}: {len(everything):,} objects, {crowds:,} of them crowds and {degenerate:,} "
        f"with a side below 1 pixel; {empty:,} images without any"
    )


def _are_numbers(values: object) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(isinstance(v, int | float) for v in values)


def _is_inside(box: object, image: dict) -> bool:
    if not _are_numbers(box) or len(box) != 4 or min(box[2:]) < 0:
        return False
    x, y, width, height = box
    return (
        min(x, y) >= -MARGIN
        and x + width <= image["width"] + MARGIN
        and y + height <= image["height"] + MARGIN
    )


def _mask_problem(mask: object, image: dict) -> str:
    """What is wrong with a mask: polygons, or run lengths with their size; '' if nothing is."""
    if isinstance(mask, dict):
        size = [image["height"], image["width"]]
        if list(mask.get("size", ())) != size:
            return f"has a mask of (height, width) {mask.get('size')} on an image of {size}"
        counts = mask.get("counts")
        if isinstance(counts, list) and (not _are_numbers(counts) or sum(counts) != prod(size)):
            return f"has a mask whose counts do not add up to {prod(size)} pixels"
        return "" if counts else "has a mask without counts"
    if not isinstance(mask, list) or not mask:
        return "has no mask"
    if any(not _are_numbers(p) or len(p) < 6 or len(p) % 2 for p in mask):
        return "has a polygon that is no list of three or more points"
    return ""


def _check_images(
    root: Path, split: Split, findings: Findings, num_workers: int
) -> list[tuple[Split, int]]:
    """Read every image, and compare it with the file; returns those with sound objects."""
    folder = root / f"{split.name}2017"
    there = set(list_files(folder)) if folder.is_dir() else set()
    listed = {image["file_name"]: i for i, image in split.images.items()}
    findings.add(
        "images of the annotation file are not in its folder",
        f"unpack {split.name}2017.zip again",
        [f"{folder.name}/{name}" for name in sorted(listed) if name not in there],
    )
    strange = sorted(name for name in there - set(listed) if is_image(name))
    findings.add(
        "images are not in the annotation file, so nobody will see them",
        "remove them, or take the annotation file that belongs to the folder",
        [f"{folder.name}/{name}" for name in strange],
    )
    names = sorted(name for name in listed if name in there)
    paths = [str(folder / name) for name in names]
    unreadable, resized, turned, sound = [], [], 0, []
    readings = each(read_image, paths, num_workers, f"reading {folder.name}")
    for name, reading in zip(names, readings, strict=True):
        image = split.images[listed[name]]
        stated = (image["height"], image["width"])
        if reading.size is None:
            unreadable.append(f"{folder.name}/{name}: {reading.error}")
        elif reading.size == stated:
            sound.append((split, listed[name]))
        elif reading.size == stated[::-1]:  # a camera's rotation swaps the sides
            turned += 1
        else:
            height, width = reading.size
            resized.append(
                f"{folder.name}/{name} has {width}x{height} pixels, not {stated[1]}x{stated[0]}"
            )
    findings.add("images cannot be read", "unpack or download them again", unreadable)
    findings.add(
        "images have another size than the annotation file says",
        "take the images that were annotated",
        resized,
    )
    if turned:
        findings.notes.append(
            f"{split.name}: {turned:,} images have width and height exchanged, by their EXIF data"
        )
    known = split.category_names
    return [
        (split, i)
        for split, i in sound
        if all(
            a["category_id"] in known
            and known[a["category_id"]] in CLASSES
            and _is_inside(a["bbox"], split.images[i])
            and not _mask_problem(a["segmentation"], split.images[i])
            for a in split.objects.get(i, ())
        )
    ]


def _draw(folder: Path, split: Split, image: dict) -> Cell:
    """An image with its boxes, masks and class names, at the size of a cell."""
    pixels = rgb_pixels(folder / image["file_name"])
    scale = fit_scale(*pixels.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image["width"], image["height"]))
    objects = split.objects.get(image["id"], [])
    instances = InstanceData(
        bboxes=torch.tensor(
            [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in objects)]
        ).reshape(-1, 4)
        * scale,
        labels=torch.tensor(
            [CLASSES.index(split.category_names[a["category_id"]]) for a in objects],
            dtype=torch.int64,
        ),
        masks=np.array(
            [
                cv2.resize(
                    _mask(a["segmentation"], image),
                    (width, height),
                    interpolation=cv2.INTER_NEAREST,
                )
                for a in objects
            ]
        ).reshape(-1, height, width),
    )
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=interpolation)
    drawn = draw_instances(canvas, instances, CLASSES, PALETTE, zoom=1)
    return Cell(drawn, f"{split.name} {image['file_name']}: {len(objects)} objects")


def _mask(mask: list | dict, image: dict) -> np.ndarray:
    """(H, W) uint8, 1 inside."""
    size = image["height"], image["width"]
    runs = mask
    if isinstance(mask, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(mask, *size))
    elif isinstance(mask["counts"], list):
        runs = coco_mask.frPyObjects(mask, *size)
    return coco_mask.decode(runs)
