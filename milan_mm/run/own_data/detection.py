"""Detection on any folder in the COCO format; classes and masks are those of the JSON files."""

from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.coco.folder import Split, find_split
from milan_mm.datasets.coco.lvis import is_lvis
from milan_mm.datasets.coco.usage import Usage, usage
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.errors import UserError
from milan_mm.run.config_nodes import evaluators_of, type_name
from milan_mm.run.own_data.judged import JUDGED, check_classes
from milan_mm.run.own_data.settings import (
    metainfo,
    set_dataset,
    set_num_classes,
    transforms_of,
)
from milan_mm.run.records.record import Recorded
from milan_mm.text import shorten_list

_MASKS_ONLY = ("panoptic_head", "mask_head")  # parts of detectors that have no boxes of their own


def use_coco_folder(cfg: Config, root: Path, tested: Recorded | None = None) -> list[str]:
    """Take classes from the annotation files; without masks, leave the mask head out.

    Args:
        tested: See `set_own_data`.

    Raises:
        MissingFileError: When a split has no annotation file, or none whose images are there.
        UserError: When the files are not in COCO's format, or disagree on the classes.
    """
    if tested:
        return _use_judged(cfg, root, tested)
    train = find_split(root, "train", MAX_FAILED_SHARE)
    val = find_split(root, "val", 0.0)
    _compare(train, val)
    used = _used(train), _used(val, is_evaluation=True)
    objects = [train.file.annotations[number] for number in used[0].learnt.tolist()]
    num_masks = sum(bool(annotation.get("segmentation")) for annotation in objects)
    if 0 < num_masks < len(objects):
        raise UserError(
            f"{len(objects) - num_masks} of {len(objects)} objects in '{train.file.path}' have no "
            "segmentation: annotate all masks, or remove all of them for a detector of boxes"
        )
    if not num_masks:
        _check_boxes_suffice(cfg, train)
    _set(cfg, root, train_dataloader=train, val_dataloader=val, test_dataloader=val)
    lines = [_found(root, *pair) for pair in zip((train, val), used, strict=True)]
    chosen = {annotation["category_id"] for annotation in objects}
    unused = [name for i, name in train.file.category_names.items() if i not in chosen]
    lines.append(
        f"{len(train.classes)} classes: {shorten_list(train.classes)}"
        + (f"; without any object to learn from: {shorten_list(unused)}" if unused else "")
    )
    if not num_masks and leave_masks_out(cfg):
        lines.append("no masks in the annotations: the mask head is left out, AP is of boxes")
    return lines


def _use_judged(cfg: Config, root: Path, tested: Recorded) -> list[str]:
    """Test on one split, whose categories are the classes of the checkpoint."""
    split = find_split(root, "val or test", 0.0, JUDGED)
    remedy = "give the file the same list of categories"
    check_classes(tested.path, tested.classes or [], split.file.path, split.classes, remedy)
    _set(cfg, root, val_dataloader=split, test_dataloader=split)
    lines = [
        _found(root, split, _used(split, is_evaluation=True)),
        f"{len(split.classes)} classes, those of {tested.path}: {shorten_list(split.classes)}",
    ]
    if not tested.masks and leave_masks_out(cfg):
        lines.append(f"{tested.path} has no mask head, AP is of boxes")
    return lines


def _used(split: Split, is_evaluation: bool = False) -> Usage:
    """What becomes of its objects; the check before a start refuses what drops too many."""
    found = usage(split.file, is_evaluation=is_evaluation)
    if not len(found.learnt):
        found.check()
    return found


def _found(root: Path, split: Split, used: Usage) -> str:
    return (
        f"{len(split.file.images)} images in '{root / split.prefix}', {len(used.learnt)} objects "
        f"in '{split.file.path}'"
    )


def _set(cfg: Config, root: Path, **loaders: Split) -> None:
    """Put the splits into data loaders and metrics, and the number of classes into the heads."""
    for loader, split in loaders.items():
        set_dataset(
            cfg,
            loader,
            type="CocoDataset",
            data_root=str(root),
            ann_file=str(split.file.path.relative_to(root)),
            data_prefix=dict(img=split.prefix),
            metainfo=metainfo(split.classes),
        )
        set_num_classes(cfg.model, len(split.classes))
        for evaluator in evaluators_of(cfg, loader):
            if "ann_file" in evaluator:
                evaluator["ann_file"] = str(split.file.path)
            if type_name(evaluator) == "LVISMetric" and not is_lvis(split.file):
                evaluator["type"] = "milan_mm.CocoMetric"  # nothing says what is known to be absent


def _compare(train: Split, val: Split) -> None:
    """mmdet numbers classes in the order of each file, so the order counts as well."""
    if train.classes == val.classes:
        return
    pairs = enumerate(zip_longest(train.classes, val.classes))
    first, (in_train, in_val) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise UserError(
        f"'{train.file.path}' has {len(train.classes)} categories and '{val.file.path}' "
        f"{len(val.classes)}, which differ from label {first} on, '{in_train}' against "
        f"'{in_val}': give both files the same list"
    )


def _check_boxes_suffice(cfg: Config, train: Split) -> None:
    if part := next((name for name in _MASKS_ONLY if cfg.model.get(name)), None):
        raise UserError(
            f"'{train.file.path}' has no masks, and {cfg.model.type} ({part}) learns from nothing "
            "else: annotate masks, or take another detector, e.g. det/mask-rcnn_..., which then "
            "leaves its mask head out"
        )


def leave_masks_out(cfg: Config) -> bool:
    """Read and judge boxes alone; says whether the detector has had a mask head to leave out."""
    roi_head = cfg.model.get("roi_head") or {}
    had_masks = bool(roi_head.get("mask_head"))
    if had_masks:
        roi_head.update(mask_head=None, mask_roi_extractor=None)
    elif any(cfg.model.get(name) for name in _MASKS_ONLY):
        return False
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for transform in transforms_of(cfg, loader):
            for key in ("with_mask", "recompute_bbox"):
                if key in transform:
                    transform[key] = False
    for loader in ("val_dataloader", "test_dataloader"):
        for evaluator in evaluators_of(cfg, loader):
            if "metric" in evaluator:
                evaluator["metric"] = "bbox"
    return had_masks
