"""Do COCO annotations, images and classes belong together? Asked before anything is built.

mmdet itself finds out late: it leaves out what it does not know, numbers classes by the order of
the file, and stops at the first annotation without a mask, maybe hours after the start.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import list_from_file
from PIL import Image

from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.errors import UserError
from milan_mm.run.checks.files import datasets_of, evaluators_of, is_local

_NUM_OPENED = 20  # images whose size is compared with the file's; opening 100,000 takes minutes
_FIELDS = ("id", "image_id", "category_id", "bbox", "area")


def check_coco(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Look into the annotation file of every local `CocoDataset` of the given data loaders.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Returns:
        Lines for the log about what will be left out.

    Raises:
        UserError: Names the file, what is wrong with it, and the remedy.
    """
    notes = []
    for loader in loaders:
        for field, dataset in datasets_of(cfg, loader):
            if dataset["type"].rpartition(".")[-1] == "CocoDataset" and is_local(dataset):
                notes += _check_dataset(cfg, loader, field, dataset)
    return notes


def _check_dataset(cfg: Config, loader: str, field: str, dataset: dict) -> list[str]:
    root = dataset.get("data_root") or ""
    path = Path(root, dataset["ann_file"])
    classes = _classes(dataset)
    evaluators = evaluators_of(cfg, loader)
    wants_objects = loader == "train_dataloader" or any(
        not evaluator.get("format_only") for evaluator in evaluators
    )
    content = _read(path, ("images", "categories") + ("annotations",) * wants_objects)
    notes = _check_classes(path, field, content["categories"], classes)
    _check_heads(cfg, field, classes)
    folder = Path(root, (dataset.get("data_prefix") or {}).get("img", ""))
    limit = MAX_FAILED_SHARE if loader == "train_dataloader" else 0.0
    _check_images(path, folder, content["images"], limit)
    if wants_objects:
        with_masks = any(step.get("with_mask") for step in dataset.get("pipeline") or ())
        _check_annotations(path, content, classes, with_masks)
    for evaluator in evaluators:
        other = evaluator.get("ann_file")
        if other and Path(other).resolve() != path.resolve():
            _check_evaluated(path, content, Path(other), classes)
    return notes


def _read(path: Path, lists: Sequence[str]) -> dict:
    """Read a file in the COCO format, which must have the given lists."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"annotation file '{path}' is no JSON file: {error}") from None
    missing = [
        name
        for name in lists
        if not isinstance(content, dict) or not isinstance(content.get(name), list)
    ]
    if missing:
        raise UserError(
            f"annotation file '{path}' has no list '{missing[0]}': detection needs COCO's format "
            "with images, annotations and categories"
        )
    if not content["images"]:
        raise UserError(f"annotation file '{path}' lists no images: give a file that does")
    return content


def _classes(dataset: dict) -> list[str]:
    """The classes that mmdet will take: those of the config, else those of COCO."""
    classes = (dataset.get("metainfo") or {}).get("classes")
    if isinstance(classes, str):
        return list_from_file(classes)
    if classes is None:
        from mmdet.datasets import CocoDataset

        return list(CocoDataset.METAINFO["classes"])
    return list(classes)


def _check_classes(path: Path, field: str, categories: list[dict], classes: list[str]) -> list[str]:
    """Every class once and in the file's order, since mmdet numbers them by the file."""
    named = [category.get("name") for category in categories]
    found = [name for name in named if name in set(classes)]
    remedy = (
        f"set {field}.metainfo.classes and the heads' num_classes to the file's categories, or let "
        "--data DIR do it"
    )
    missing = [name for name in classes if name not in named]
    if missing:
        raise UserError(
            f"annotation file '{path}' lacks {len(missing)} of the config's {len(classes)} "
            f"classes, first '{missing[0]}'; its categories are {_some(named)}: {remedy}"
        )
    if len(found) > len(classes):
        twice = next(name for name in found if found.count(name) > 1)
        raise UserError(
            f"annotation file '{path}' has several categories named '{twice}': make them one"
        )
    if found != classes:
        first = next(i for i, name in enumerate(classes) if name != found[i])
        raise UserError(
            f"annotation file '{path}' lists the categories in another order than the config, "
            f"whose class {first} is '{classes[first]}', not '{found[first]}': {remedy}"
        )
    unused = [name for name in named if name not in set(classes)]
    if not unused:
        return []
    return [f"{path}: {len(unused)} categories are no classes of the config: {_some(unused)}"]


def _check_heads(cfg: Config, field: str, classes: list[str]) -> None:
    for name, num_classes in _heads(cfg.model, "model"):
        if num_classes != len(classes):
            raise UserError(
                f"{name}.num_classes={num_classes}, but {field} has {len(classes)} classes: pass "
                f"--cfg-options {name}.num_classes={len(classes)}"
            )


def _heads(node: object, name: str) -> Iterator[tuple[str, int]]:
    """The box and mask heads of a detector, which may be lists, and their numbers of classes."""
    if isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _heads(value, f"{name}.{i}")
    elif isinstance(node, dict):
        if "num_classes" in node and ("bbox_head" in name or "mask_head" in name):
            yield name, node["num_classes"]
        for key, value in node.items():
            yield from _heads(value, f"{name}.{key}")


def _check_images(path: Path, folder: Path, images: list[dict], limit: float) -> None:
    """At most a share of `limit` may be missing, and a sample must have the size of the file."""
    for image in images:
        lacking = [key for key in ("id", "file_name", "height", "width") if key not in image]
        if lacking:
            raise UserError(f"annotation file '{path}' has an image without '{lacking[0]}'")
    missing = list(_missing(folder, [image["file_name"] for image in images]))
    if len(missing) > limit * len(images):
        raise UserError(
            f"{len(missing)} of the {len(images)} images of '{path}' are not in '{folder}', first "
            f"'{missing[0]}': give the folder that belongs to the file (data_prefix.img)"
        )
    for image in images[:: -(-len(images) // _NUM_OPENED)]:
        stated = (image["width"], image["height"])
        try:
            with Image.open(folder / image["file_name"]) as opened:
                size = opened.size
        except OSError:
            continue  # missing or damaged: skipped and counted when it is its turn
        if sorted(size) != sorted(stated):  # a camera's rotation swaps the sides
            raise UserError(
                f"'{folder / image['file_name']}' has {size[0]}x{size[1]} pixels, but '{path}' "
                f"says {stated[0]}x{stated[1]}: take the images that were annotated"
            )


def _missing(folder: Path, names: list[str]) -> Iterator[str]:
    """Names without a file; each folder is listed once, which is faster than asking per file."""
    listed: dict[str, set[str]] = {}
    for name in names:
        parent, base = os.path.split(os.path.join(folder, name))
        if parent not in listed:
            listed[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        if base not in listed[parent]:
            yield name


def _check_annotations(path: Path, content: dict, classes: list[str], with_masks: bool) -> None:
    """Each annotation of the classes is complete, and there is at least one object."""
    annotations = content["annotations"]
    known = {c["id"] for c in content["categories"] if c.get("name") in set(classes)}
    sizes = {image["id"]: [image["height"], image["width"]] for image in content["images"]}
    num_objects = 0
    for i, annotation in enumerate(annotations):
        lacking = [key for key in _FIELDS if annotation.get(key) is None]
        if lacking:
            raise UserError(f"annotation {i} of '{path}' has no '{lacking[0]}': export it anew")
        if annotation["category_id"] not in known or annotation["image_id"] not in sizes:
            continue
        box = annotation["bbox"]
        if len(box) != 4:
            raise UserError(f"annotation {i} of '{path}' has bbox {box}, not [x, y, width, height]")
        if with_masks:
            _check_mask(path, i, annotation.get("segmentation"), sizes[annotation["image_id"]])
        is_object = not annotation.get("iscrowd") and min(box[2:]) >= 1 and annotation["area"] > 0
        num_objects += is_object
    if len({annotation["id"] for annotation in annotations}) < len(annotations):
        raise UserError(f"annotation file '{path}' has annotations with equal ids: number them")
    if not num_objects:
        raise UserError(
            f"annotation file '{path}' has no object on its {len(sizes)} images, out of "
            f"{len(annotations)} annotations: there is nothing to learn, and AP is undefined"
        )


def _check_mask(path: Path, i: int, mask: list | dict | None, size: list[int]) -> None:
    if not mask:
        raise UserError(
            f"annotation {i} of '{path}' has no segmentation, and the detector learns masks: "
            "annotate them, or take a detector without a mask head"
        )
    if isinstance(mask, dict) and list(mask.get("size", ())) != size:
        raise UserError(
            f"annotation {i} of '{path}' has a mask of (height, width) {mask.get('size')} on an "
            f"image of {size}: they must be equal"
        )


def _check_evaluated(path: Path, content: dict, other: Path, classes: list[str]) -> None:
    """The evaluator's own file must know the images and number the classes alike."""
    wanted = _read(other, ("images", "annotations", "categories"))
    ids = {image["id"] for image in wanted["images"]}
    strange = [image["file_name"] for image in content["images"] if image["id"] not in ids]
    if strange:
        raise UserError(
            f"the evaluator's '{other}' does not know {len(strange)} images of '{path}', first "
            f"'{strange[0]}': give both the same file"
        )
    numbers = [
        [c["id"] for c in part["categories"] if c.get("name") in set(classes)]
        for part in (content, wanted)
    ]
    if numbers[0] != numbers[1]:
        raise UserError(
            f"the evaluator's '{other}' has other categories than '{path}': give both the same file"
        )


def _some(names: list) -> str:
    """At most five names."""
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
