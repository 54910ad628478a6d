"""Detection on any folder in the COCO format; classes and masks are those of the JSON files."""

import json
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.own_data.folders import SPLITS, some, twice
from milan_mm.run.own_data.settings import (
    evaluators,
    metainfo,
    pipelines,
    set_dataset,
    set_num_classes,
)

# Where tools put the annotations of a split, the commonest first.
_PATTERNS = (
    "annotations/instances_{split}*.json",
    "annotations/{split}*.json",
    "{split}/_annotations.coco.json",  # Roboflow
    "{split}/*.json",
    "instances_{split}*.json",
    "{split}*.json",
)
_LISTS = ("images", "annotations", "categories")


@dataclass
class _Split:
    """An annotation file, and the folder of its images relative to the root."""

    path: Path
    prefix: str
    names: list[str]
    classes: list[str]
    objects: dict[str, int]  # by class
    num_masks: int


def use_coco_folder(cfg: Config, root: Path) -> list[str]:
    """Take classes from the annotation files; without masks, leave the mask head out.

    Raises:
        MissingFileError: When a split has no annotation file, or none whose images are there.
        UserError: When the files are not in the COCO format, or disagree on the classes.
    """
    train, val = _find(root, "train"), _find(root, "val")
    _compare(train, val)
    num_objects = sum(train.objects.values())
    for split in (train, val):
        if not sum(split.objects.values()):
            raise UserError(
                f"annotation file '{split.path}' has no object on its {len(split.names)} images: "
                "annotate some"
            )
    if 0 < train.num_masks < num_objects:
        raise UserError(
            f"{num_objects - train.num_masks} of {num_objects} objects in '{train.path}' have no "
            "segmentation: annotate all masks, or remove all of them for a detector of boxes"
        )
    for loader, split in (
        ("train_dataloader", train),
        ("val_dataloader", val),
        ("test_dataloader", val),
    ):
        set_dataset(
            cfg,
            loader,
            type="CocoDataset",
            data_root=str(root),
            ann_file=str(split.path.relative_to(root)),
            data_prefix=dict(img=split.prefix),
            metainfo=metainfo(split.classes),
        )
    set_num_classes(cfg.model, len(train.classes))
    for name in ("val_evaluator", "test_evaluator"):
        for evaluator in evaluators(cfg, name):
            if "ann_file" in evaluator:
                evaluator["ann_file"] = str(val.path)
    lines = [
        f"{len(split.names)} images in '{root / split.prefix}', "
        f"{sum(split.objects.values())} objects in '{split.path}'"
        for split in (train, val)
    ]
    unused = [name for name, count in train.objects.items() if not count]
    lines.append(
        f"{len(train.classes)} classes: {some(train.classes)}"
        + (f"; without any object to learn from: {some(unused)}" if unused else "")
    )
    if not train.num_masks and _leave_masks_out(cfg):
        lines.append("no masks in the annotations: the mask head is left out, AP is of boxes")
    return lines


def _find(root: Path, split: str) -> _Split:
    """The annotation file of a split whose images exist."""
    patterns = [p.format(split=name) for p in _PATTERNS for name in SPLITS[split]]
    rejected = []
    for pattern in patterns:
        found = []
        for path in sorted(root.glob(pattern)):
            try:
                found.append(_read(root, path, split))
            except (ValueError, FileNotFoundError) as error:
                rejected.append(error)
        if len(found) > 1:
            raise UserError(
                f"'{found[0].path}' and '{found[1].path}' both fit the {split} split: keep one of "
                "them in the folder"
            )
        if found:
            return found[0]
    if rejected:
        raise rejected[0]
    raise MissingFileError(
        f"'{root}' has no COCO annotations of a {split} split: looked for {', '.join(patterns)}; "
        "put the file at one of these places"
    )


def _read(root: Path, path: Path, split: str) -> _Split:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"annotation file '{path}' is no JSON file: {error}") from None
    content = content if isinstance(content, dict) else {}
    lacking = [name for name in _LISTS if not isinstance(content.get(name), list)]
    if lacking:
        raise UserError(
            f"annotation file '{path}' has no list '{lacking[0]}': the COCO format needs "
            f"{', '.join(_LISTS)}"
        )
    try:
        return _parse(root, path, split, content)
    except KeyError as error:
        reason = f"an entry has no {error}"
    except (TypeError, AttributeError) as error:
        reason = str(error)
    raise UserError(f"annotation file '{path}' is not in the COCO format: {reason}")


def _parse(root: Path, path: Path, split: str, content: dict) -> _Split:
    categories = {category["id"]: category["name"] for category in content["categories"]}
    classes = list(categories.values())
    if not all(isinstance(name, str) for name in classes):
        raise UserError(f"annotation file '{path}' has categories whose name is no text")
    if doubled := twice(classes):
        raise UserError(
            f"annotation file '{path}' has several categories named {some(doubled)}: make them one"
        )
    if not classes or not content["images"]:
        raise UserError(
            f"annotation file '{path}' lists {len(content['images'])} images and {len(classes)} "
            "categories: at least one of each is needed"
        )
    names = [image["file_name"] for image in content["images"]]
    objects = dict.fromkeys(classes, 0)
    num_masks = 0
    for annotation in content["annotations"]:
        if annotation["category_id"] not in categories:
            raise UserError(
                f"annotation {annotation['id']} of '{path}' has category_id "
                f"{annotation['category_id']}, which is none of the categories "
                f"{some(categories)}: add the category or remove the annotation"
            )
        if not annotation.get("iscrowd"):
            objects[categories[annotation["category_id"]]] += 1
            num_masks += bool(annotation.get("segmentation"))
    prefix = _image_folder(root, path, split, names)
    return _Split(path, prefix, names, classes, objects, num_masks)


def _image_folder(root: Path, path: Path, split: str, names: list[str]) -> str:
    """Where the images are, relative to the root: decided by the file names in the JSON."""
    own = path.stem.removeprefix("instances_")  # 'train2017' of instances_train2017.json
    places = [path.parent.relative_to(root), Path()]
    places = [*places, Path("images"), Path(own), Path("images", own)]
    for name in SPLITS[split]:
        places += [Path(name), Path("images", name), Path(name, "images")]
    found = {place: [(root / place / name).is_file() for name in names[:20]] for place in places}
    best = max(found, key=lambda place: sum(found[place]))
    missing = [name for name in names if not (root / best / name).is_file()]
    if len(missing) == len(names):
        raise MissingFileError(
            f"none of the {len(names)} images of '{path}' is there, e.g. '{names[0]}': looked in "
            + ", ".join(f"'{root / place}'" for place in found)
        )
    if len(missing) > (MAX_FAILED_SHARE if split == "train" else 0) * len(names):
        raise MissingFileError(
            f"{len(missing)} of the {len(names)} images of '{path}' are not in '{root / best}', "
            f"first '{missing[0]}': add them, or remove them from the file"
        )
    return "" if best == Path() else str(best)


def _compare(train: _Split, val: _Split) -> None:
    """mmdet numbers classes in the order of each file, so the order counts as well."""
    if train.classes == val.classes:
        return
    pairs = enumerate(zip_longest(train.classes, val.classes))
    first, (in_train, in_val) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise UserError(
        f"'{train.path}' has {len(train.classes)} categories and '{val.path}' "
        f"{len(val.classes)}, which differ from number {first} on, '{in_train}' against "
        f"'{in_val}': give both files the same list"
    )


def _leave_masks_out(cfg: Config) -> bool:
    """Turn a detector of masks into one of boxes; says whether there was anything to do."""
    roi_head = cfg.model.get("roi_head")
    if not roi_head or not roi_head.get("mask_head"):
        return False
    roi_head.update(mask_head=None, mask_roi_extractor=None)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for transform in pipelines(cfg, loader):
            for key in ("with_mask", "recompute_bbox"):
                if key in transform:
                    transform[key] = False
    for name in ("val_evaluator", "test_evaluator"):
        for evaluator in evaluators(cfg, name):
            if "metric" in evaluator:
                evaluator["metric"] = "bbox"
    return True
