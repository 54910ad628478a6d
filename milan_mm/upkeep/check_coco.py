"""COCO 2017 for detection and instance segmentation: two annotation files and their images."""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from milan_mm.datasets.coco_file import CocoFile, is_box, is_complete, read_coco, size_of
from milan_mm.datasets.folders import is_image
from milan_mm.errors import MissingFileError, UserError
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import map_in_processes
from milan_mm.upkeep.reading import list_files, read_image, rgb_pixels, spread
from milan_mm.visualization.contact_sheet import NUM_CELLS, Cell, fit_scale
from milan_mm.visualization.dense import draw_instances

NUM_IMAGES = dict(train=118_287, val=5_000)
CLASSES: tuple[str, ...] = CocoDataset.METAINFO["classes"]
PALETTE: list[tuple[int, int, int]] = CocoDataset.METAINFO["palette"]
_MEND = "unpack annotations_trainval2017.zip again"
_MISSING = (
    "unpack annotations_trainval2017.zip there, or pass the folder above annotations/ as --root"
)


def check_coco(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{train,val}2017 against ROOT/annotations/instances_{train,val}2017.json.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images with boxes and masks for the contact sheet.
    """
    files = {name: file for name in NUM_IMAGES if (file := _read(root, name, findings))}
    if len(files) == 2:
        train, val = ({image["file_name"] for image in f.images} for f in files.values())
        findings.add("images are in both splits", _MEND, sorted(train & val))
    sound = {}
    for name, file in files.items():
        faulty = _check_entries(name, file, findings)
        readable = _check_images(root / f"{name}2017", file, findings, num_workers)
        sound[name] = [(name, image) for image in readable if image["id"] not in faulty]
    samples = spread(sound.get("train", []), sound.get("val", []), NUM_CELLS)
    return [_draw(root, name, files[name], image) for name, image in samples]


def _read(root: Path, name: str, findings: Findings) -> CocoFile | None:
    path = root / f"annotations/instances_{name}2017.json"
    try:
        file = read_coco(path)
    except MissingFileError:
        findings.add("annotation files are missing", _MISSING, [str(path)])
        return None
    except UserError as error:
        findings.add("annotation files are not in COCO's format", _MEND, [str(error)])
        return None
    findings.compare_count(f"images in {path.name}", len(file.images), NUM_IMAGES[name])
    return file


def _check_entries(name: str, file: CocoFile, findings: Findings) -> set:
    """Everything that the file says; returns the ids of images that cannot be used for it."""
    faulty = set()
    for problem in file.problems():
        _add(findings, problem.kind, file, [str(problem)])
        faulty.add(problem.image_id)
    # mmdet numbers the classes by the order of the file
    names = list(file.category_names.values())
    differing = [
        f"category {i} is {found!r}, not {wanted!r}"
        for i, (found, wanted) in enumerate(zip(names, CLASSES, strict=False), start=1)
        if found != wanted
    ]
    if len(names) != len(CLASSES):
        differing.append(f"{len(names)} categories, not {len(CLASSES)}")
    _add(findings, "categories are not COCO's", file, differing)
    complete = [annotation for annotation in file.annotations if is_complete(annotation)]
    crowds = sum(bool(annotation.get("iscrowd")) for annotation in complete)
    boxes = [annotation["bbox"] for annotation in complete if is_box(annotation["bbox"])]
    degenerate = sum(0 <= min(box[2:]) < 1 for box in boxes)
    empty = len(file.images_by_id.keys() - {annotation["image_id"] for annotation in complete})
    findings.notes.append(
        f"{name}: {len(complete):,} objects, {crowds:,} of them crowds and {degenerate:,} "
        f"with a side below 1 pixel; {empty:,} images without any"
    )
    return faulty


def _add(findings: Findings, kind: str, file: CocoFile, names: list[str]) -> None:
    findings.add(kind, _MEND, [f"{file.path.name}: {name}" for name in names])


def _check_images(folder: Path, file: CocoFile, findings: Findings, num_workers: int) -> list[dict]:
    """Read every image, and compare it with the file; returns those that fit."""
    there = set(list_files(folder)) if folder.is_dir() else set()
    listed = {image["file_name"]: image for image in file.images}
    findings.add(
        "images of the annotation file are not in its folder",
        f"unpack {folder.name}.zip again",
        [f"{folder.name}/{name}" for name in sorted(listed) if name not in there],
    )
    strange = sorted(name for name in there - set(listed) if is_image(name))
    findings.add(
        "images are not in the annotation file, so they will not be used",
        "remove them, or take the annotation file that belongs to the folder",
        [f"{folder.name}/{name}" for name in strange],
    )
    names = sorted(name for name in listed if name in there)
    paths = [str(folder / name) for name in names]
    unreadable, resized, turned, fitting = [], [], 0, []
    readings = map_in_processes(read_image, paths, num_workers, f"reading {folder.name}")
    for name, reading in zip(names, readings, strict=True):
        image = listed[name]
        stated = (image["height"], image["width"])
        if reading.size is None:
            unreadable.append(f"{folder.name}/{name}: {reading.error}")
        elif reading.size == stated:
            fitting.append(image)
        elif reading.size == stated[::-1]:  # a camera's rotation swaps the sides
            turned += 1
        else:
            height, width = reading.size
            resized.append(
                f"{folder.name}/{name} has {width}x{height} pixels, not {size_of(image)}"
            )
    findings.add("images cannot be read", "unpack or download them again", unreadable)
    findings.add(
        "images have another size than the annotation file says",
        "take the images that were annotated",
        resized,
    )
    if turned:
        findings.notes.append(
            f"{folder.name.removesuffix('2017')}: {turned:,} images have width and height "
            "exchanged, by their EXIF data"
        )
    return fitting


def _draw(root: Path, name: str, file: CocoFile, image: dict) -> Cell:
    """An image with its boxes, masks and class names, at the size of a cell."""
    pixels = rgb_pixels(root / f"{name}2017" / image["file_name"])
    scale = fit_scale(*pixels.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image["width"], image["height"]))
    objects = [a for a in file.annotations if is_complete(a) and a["image_id"] == image["id"]]
    numbers = {category_id: number for number, category_id in enumerate(file.category_names)}
    instances = InstanceData(
        bboxes=torch.tensor(
            [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in objects)]
        ).reshape(-1, 4)
        * scale,
        labels=torch.tensor([numbers[a["category_id"]] for a in objects], dtype=torch.int64),
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
    palette = [PALETTE[number % len(PALETTE)] for number in range(len(numbers))]
    drawn = draw_instances(canvas, instances, tuple(file.category_names.values()), palette, zoom=1)
    return Cell(drawn, f"{name} {image['file_name']}: {len(objects)} objects")


def _mask(mask: list | dict, image: dict) -> np.ndarray:
    """(H, W) uint8, 1 inside."""
    size = image["height"], image["width"]
    runs = mask
    if isinstance(mask, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(mask, *size))
    elif isinstance(mask["counts"], list):
        runs = coco_mask.frPyObjects(mask, *size)
    return coco_mask.decode(runs)
