"""Do COCO annotations, images and classes belong together? Checked before anything is built.

mmdet notices these problems late: it leaves out what it does not know, numbers classes by the order
of the file, and stops at the first annotation without a mask, perhaps hours after the start.
"""

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file
from PIL import Image

from milan_mm.datasets.coco_file import CocoFile, Kind, read_coco, size_of
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.errors import UserError
from milan_mm.run.checks.files import is_local
from milan_mm.run.config_nodes import config_nodes, datasets_of, evaluators_of
from milan_mm.text import shorten_list

_NUM_OPENED = 20  # images whose size is compared with the file's; opening 100,000 takes minutes
# what would end a training hours later, or spoil it without a word
_FATAL = (
    Kind.SHARED_CATEGORY,
    Kind.SHARED_IMAGE,
    Kind.NO_SIZE,
    Kind.INCOMPLETE,
    Kind.SHARED_ID,
    Kind.NO_BOX,
    Kind.NO_MASK,
    Kind.MASK_SIZE,
)


def check_coco(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Check the annotation file of every local `CocoDataset` of the given data loaders.

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
    classes = _classes(dataset)
    evaluators = evaluators_of(cfg, loader)
    wants_objects = loader == "train_dataloader" or any(
        not evaluator.get("format_only") for evaluator in evaluators
    )
    file = read_coco(Path(root, dataset["ann_file"]), with_annotations=wants_objects)
    chosen = _ids_of(file, classes)
    with_masks = any(step.get("with_mask") for step in dataset.get("pipeline") or ())
    file.refuse(_FATAL, set(chosen), with_masks)
    notes = _check_classes(file, field, classes)
    _check_heads(cfg, field, classes)
    folder = Path(root, (dataset.get("data_prefix") or {}).get("img", ""))
    limit = MAX_FAILED_SHARE if loader == "train_dataloader" else 0.0
    file.check_images(folder, limit, "give the folder that belongs to the file (data_prefix.img)")
    _check_sizes(file, folder)
    if wants_objects:
        file.objects(set(chosen))
    for evaluator in evaluators:
        other = evaluator.get("ann_file")
        if other and Path(other).resolve() != file.path.resolve():
            _check_evaluated(file, read_coco(Path(other)), classes)
    return notes


def _classes(dataset: dict) -> list[str]:
    """The classes that mmdet will take: those of the config, else those of COCO."""
    classes = (dataset.get("metainfo") or {}).get("classes")
    if isinstance(classes, str):
        return list_from_file(classes)
    if classes is None:
        from mmdet.datasets import CocoDataset

        return list(CocoDataset.METAINFO["classes"])
    return list(classes)


def _ids_of(file: CocoFile, classes: list[str]) -> list:
    """Ids of the categories that the config names, in the order of the file."""
    return [c["id"] for c in file.categories if c["name"] in classes]


def _check_classes(file: CocoFile, field: str, classes: list[str]) -> list[str]:
    """Every class once and in the file's order, since mmdet numbers them by the file."""
    named = list(file.category_names.values())
    found = [name for name in named if name in classes]
    remedy = (
        f"set {field}.metainfo.classes and the heads' num_classes to the file's categories, or let "
        "--data DIR do it"
    )
    missing = [name for name in classes if name not in named]
    if missing:
        raise UserError(
            f"annotation file '{file.path}' does not have {len(missing)} of the config's "
            f"{len(classes)} classes, first '{missing[0]}'; its categories are "
            f"{shorten_list(named)}: {remedy}"
        )
    if found != classes:
        first = next(i for i, name in enumerate(classes) if name != found[i])
        raise UserError(
            f"annotation file '{file.path}' lists the categories in another order than the config, "
            f"whose class {first} is '{classes[first]}', not '{found[first]}': {remedy}"
        )
    unused = [name for name in named if name not in classes]
    if not unused:
        return []
    return [
        f"{file.path}: {len(unused)} categories are not classes of the config: "
        + shorten_list(unused)
    ]


def _check_heads(cfg: Config, field: str, classes: list[str]) -> None:
    for name, num_classes in _heads(cfg.model):
        if num_classes != len(classes):
            raise UserError(
                f"{name}.num_classes={num_classes}, but {field} has {len(classes)} classes: pass "
                f"--cfg-options {name}.num_classes={len(classes)}"
            )


def _heads(model: ConfigDict) -> Iterator[tuple[str, int]]:
    """The box and mask heads of a detector, which may be lists, and their numbers of classes."""
    for name, node in config_nodes(model, "model"):
        if "num_classes" in node and ("bbox_head" in name or "mask_head" in name):
            yield name, node["num_classes"]


def _check_sizes(file: CocoFile, folder: Path) -> None:
    """A sample of the images must have the size that the file states."""
    images = file.images
    for image in images[:: -(-len(images) // _NUM_OPENED)]:
        try:
            with Image.open(folder / image["file_name"]) as opened:
                size = opened.size
        except OSError:
            continue  # missing or damaged: skipped and counted when it is its turn
        if sorted(size) != sorted((image["width"], image["height"])):  # a turned camera swaps them
            raise UserError(
                f"'{folder / image['file_name']}' has {size[0]}x{size[1]} pixels, but "
                f"'{file.path}' says {size_of(image)}: take the images that were annotated"
            )


def _check_evaluated(file: CocoFile, other: CocoFile, classes: list[str]) -> None:
    """The evaluator's own file must list the same images and number the classes in the same way."""
    strange = [i["file_name"] for i in file.images if i["id"] not in other.images_by_id]
    if strange:
        raise UserError(
            f"the evaluator's '{other.path}' does not know {len(strange)} images of '{file.path}', "
            f"first '{strange[0]}': give both the same file"
        )
    if _ids_of(file, classes) != _ids_of(other, classes):
        raise UserError(
            f"the evaluator's '{other.path}' has other categories than '{file.path}': give both "
            "the same file"
        )
