"""Detection on any folder in the COCO format; classes and masks are those of the JSON files."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from milan_mm.datasets.coco_file import CocoFile, Kind, read_coco
from milan_mm.datasets.folders import missing_files
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.config_nodes import evaluators_of
from milan_mm.run.own_data.folders import SPLITS
from milan_mm.run.own_data.judged import JUDGED, check_classes
from milan_mm.run.own_data.settings import (
    metainfo,
    set_dataset,
    set_num_classes,
    transforms_of,
)
from milan_mm.run.record import Recorded
from milan_mm.text import shorten_list

# Where tools put the annotations of a split, the commonest first.
_PATTERNS = (
    "annotations/instances_{split}*.json",
    "annotations/{split}*.json",
    "{split}/_annotations.coco.json",  # Roboflow
    "{split}/*.json",
    "instances_{split}*.json",
    "{split}*.json",
)
# what must be right to count classes and objects; the check before a start looks at the rest
_FATAL = (Kind.SHARED_CATEGORY, Kind.INCOMPLETE, Kind.UNKNOWN_CATEGORY, Kind.NO_BOX)


class _Split(NamedTuple):
    """An annotation file, and the folder of its images relative to the root."""

    file: CocoFile
    prefix: str

    @property
    def classes(self) -> list[str]:
        return list(self.file.category_names.values())


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
    train, val = _find(root, "train"), _find(root, "val")
    _compare(train, val)
    objects, num_val_objects = train.file.objects(), len(val.file.objects())
    num_masks = sum(bool(annotation.get("segmentation")) for annotation in objects)
    if 0 < num_masks < len(objects):
        raise UserError(
            f"{len(objects) - num_masks} of {len(objects)} objects in '{train.file.path}' have no "
            "segmentation: annotate all masks, or remove all of them for a detector of boxes"
        )
    _set(cfg, root, train_dataloader=train, val_dataloader=val, test_dataloader=val)
    lines = [
        f"{len(split.file.images)} images in '{root / split.prefix}', "
        f"{num_objects} objects in '{split.file.path}'"
        for split, num_objects in ((train, len(objects)), (val, num_val_objects))
    ]
    found = {annotation["category_id"] for annotation in objects}
    unused = [name for i, name in train.file.category_names.items() if i not in found]
    lines.append(
        f"{len(train.classes)} classes: {shorten_list(train.classes)}"
        + (f"; without any object to learn from: {shorten_list(unused)}" if unused else "")
    )
    if not num_masks and leave_masks_out(cfg):
        lines.append("no masks in the annotations: the mask head is left out, AP is of boxes")
    return lines


def _use_judged(cfg: Config, root: Path, tested: Recorded) -> list[str]:
    """Test on one split, whose categories are the classes of the checkpoint."""
    split = _find(root, "val or test", JUDGED)
    remedy = "give the file the same list of categories"
    check_classes(tested.path, tested.classes or [], split.file.path, split.classes, remedy)
    _set(cfg, root, val_dataloader=split, test_dataloader=split)
    lines = [
        f"{len(split.file.images)} images in '{root / split.prefix}', "
        f"{len(split.file.objects())} objects in '{split.file.path}'",
        f"{len(split.classes)} classes, those of {tested.path}: {shorten_list(split.classes)}",
    ]
    if not tested.masks and leave_masks_out(cfg):
        lines.append(f"{tested.path} has no mask head, AP is of boxes")
    return lines


def _set(cfg: Config, root: Path, **loaders: _Split) -> None:
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


def _find(root: Path, split: str, names: Sequence[str] | None = None) -> _Split:
    """The annotation file of a split whose images exist.

    Args:
        names: Those of the split, if not the usual ones.
    """
    names = names or SPLITS[split]
    patterns = [p.format(split=name) for p in _PATTERNS for name in names]
    rejected = []
    for pattern in patterns:
        found = []
        for path in sorted(root.glob(pattern)):
            try:
                found.append(_read(root, path, names))
            except UserError as error:
                rejected.append(error)
        if len(found) > 1:
            raise UserError(
                f"'{found[0].file.path}' and '{found[1].file.path}' both fit the {split} split: "
                "keep one of them in the folder"
            )
        if found:
            return found[0]
    if rejected:
        raise rejected[0]
    raise MissingFileError(
        f"'{root}' has no COCO annotations of a {split} split: looked for {', '.join(patterns)}; "
        "put the file at one of these places"
    )


def _read(root: Path, path: Path, names: Sequence[str]) -> _Split:
    file = read_coco(path)
    file.refuse(_FATAL, with_masks=False)
    return _Split(file, _image_folder(root, file, names))


def _image_folder(root: Path, file: CocoFile, split_names: Sequence[str]) -> str:
    """Where the images are, relative to the root: decided by the file names in the JSON."""
    own = file.path.stem.removeprefix("instances_")  # 'train2017' of instances_train2017.json
    places = [file.path.parent.relative_to(root), Path()]
    places = [*places, Path("images"), Path(own), Path("images", own)]
    for name in split_names:
        places += [Path(name), Path("images", name), Path(name, "images")]
    names = [image["file_name"] for image in file.images]
    found = {place: sum((root / place / n).is_file() for n in names[:20]) for place in places}
    best = max(places, key=lambda place: found[place])
    if not found[best] and len(missing_files(names, root / best)) == len(names):
        raise MissingFileError(
            f"none of the {len(names)} images of '{file.path}' is there, e.g. '{names[0]}': looked "
            f"in {shorten_list([root / place for place in found], len(found))}"
        )
    limit = MAX_FAILED_SHARE if "train" in split_names else 0.0
    file.check_images(root / best, limit, "add them, or remove them from the file")
    return "" if best == Path() else str(best)


def _compare(train: _Split, val: _Split) -> None:
    """mmdet numbers classes in the order of each file, so the order counts as well."""
    if train.classes == val.classes:
        return
    pairs = enumerate(zip_longest(train.classes, val.classes))
    first, (in_train, in_val) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise UserError(
        f"'{train.file.path}' has {len(train.classes)} categories and '{val.file.path}' "
        f"{len(val.classes)}, which differ from number {first} on, '{in_train}' against "
        f"'{in_val}': give both files the same list"
    )


def leave_masks_out(cfg: Config) -> bool:
    """Turn a detector of masks into one of boxes; says whether there was anything to do."""
    roi_head = cfg.model.get("roi_head")
    if not roi_head or not roi_head.get("mask_head"):
        return False
    roi_head.update(mask_head=None, mask_roi_extractor=None)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for transform in transforms_of(cfg, loader):
            for key in ("with_mask", "recompute_bbox"):
                if key in transform:
                    transform[key] = False
    for loader in ("val_dataloader", "test_dataloader"):
        for evaluator in evaluators_of(cfg, loader):
            if "metric" in evaluator:
                evaluator["metric"] = "bbox"
    return True
