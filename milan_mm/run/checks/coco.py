"""Do COCO annotations, images and classes belong together? Checked before anything is built.

mmdet notices these problems late: it leaves out what it does not know, numbers classes by the order
of the file, and stops at the first annotation without a mask, perhaps hours after the start.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.coco.faults import Kind, Problem
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.coco.images import SAMPLE, check_sizes
from milan_mm.datasets.coco.lvis import check_lvis
from milan_mm.datasets.coco.reading import read_coco
from milan_mm.datasets.coco.usage import Usage, usage
from milan_mm.datasets.folders import spread
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.datasets.overlap import compare_listed
from milan_mm.errors import UserError
from milan_mm.run.checks.coco_classes import check_classes, check_heads, classes_of, ids_of
from milan_mm.run.checks.files import is_local
from milan_mm.run.checks.images import SAMPLE as READ
from milan_mm.run.checks.images import read_sample
from milan_mm.run.config_nodes import datasets_of, evaluators_of, type_name

# Classes of mmdet -> ours, which read a file once, and LVIS without the package of this name.
_READERS = ("CocoDataset", "LVISV1Dataset")
_METRICS = ("LVISMetric",)
# Said and counted, or refused when too many: see `Usage`. All else would end a training hours
# later, or spoil it without a word.
_NOT_FATAL = (Kind.UNKNOWN_CATEGORY, Kind.UNKNOWN_IMAGE, Kind.BOX_OUTSIDE, Kind.BAD_POLYGON)
FATAL = tuple(kind for kind in Kind if kind not in _NOT_FATAL)


@dataclass(frozen=True)
class _Read:
    """A data set that was checked: its file, the folder of its images."""

    file: CocoFile
    folder: Path

    @property
    def names(self) -> list[str]:
        """Of its images, inside the folder."""
        return self.file.names


def use_coco_reader(cfg: Config) -> None:
    """Let every local data set of COCO or LVIS take what the checks have read, in place."""
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for _, dataset in datasets_of(cfg, loader):
            if is_local(dataset):
                _take_ours(dataset, _READERS)
        for evaluator in evaluators_of(cfg, loader):
            _take_ours(evaluator, _METRICS)


def _take_ours(node: dict, names: tuple[str, ...]) -> None:
    if node["type"] in (*names, *(f"mmdet.{name}" for name in names)):
        node["type"] = f"milan_mm.{type_name(node)}"


def check_coco(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Check the annotation file of every local `CocoDataset` or `LVISV1Dataset` of data loaders.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Returns:
        Lines for the log about what is used and what will be left out.

    Raises:
        UserError: Names the file, what is wrong with it, and the remedy.
    """
    notes = []
    read: dict[str, list[_Read]] = {loader: [] for loader in loaders}
    for loader in loaders:
        for field, dataset in datasets_of(cfg, loader):
            if type_name(dataset) in _READERS and is_local(dataset):
                data, lines = _check_dataset(cfg, loader, field, dataset)
                read[loader].append(data)
                notes += lines
    for train in read.get("train_dataloader", ()):
        for val in read.get("val_dataloader", ()):
            overlap = compare_listed(train.folder, train.names, val.folder, val.names)
            notes += [str(overlap)] if overlap.found else []
    return notes


def _check_dataset(cfg: Config, loader: str, field: str, dataset: dict) -> tuple[_Read, list[str]]:
    root, is_training = dataset.get("data_root") or "", loader == "train_dataloader"
    evaluators = evaluators_of(cfg, loader)
    wants_objects = is_training or any(not evaluator.get("format_only") for evaluator in evaluators)
    file = read_coco(Path(root, dataset["ann_file"]), with_annotations=wants_objects)
    classes = classes_of(dataset, file)
    chosen = ids_of(file, classes)
    with_masks = _wants_masks(dataset, evaluators)
    problems = list(file.problems(set(chosen), with_masks))
    file.refuse(FATAL, problems)
    notes = check_classes(file, field, classes)
    check_heads(cfg, field, classes)
    folder = Path(root, (dataset.get("data_prefix") or {}).get("img", ""))
    limit = MAX_FAILED_SHARE if is_training else 0.0
    file.check_images(folder, limit, "give the folder that belongs to the file (data_prefix.img)")
    check_sizes(file, folder, spread(file.images, min(len(file.images), SAMPLE)))
    looked_at = [folder / i["file_name"] for i in spread(file.images, min(len(file.images), READ))]
    notes += read_sample(folder, looked_at, is_training, len(file.images))
    if any(type_name(e) == "LVISMetric" and not e.get("format_only") for e in evaluators):
        notes += check_lvis(file)
    if wants_objects:
        notes += _check_objects(file, loader, field, dataset, set(chosen), problems)
    for evaluator in evaluators:
        other = evaluator.get("ann_file")
        if other and Path(other).resolve() != file.path.resolve():
            _check_evaluated(file, read_coco(Path(other)), classes, with_masks)
    return _Read(file, folder), notes


def _wants_masks(dataset: dict, evaluators: list) -> bool:
    metrics = [evaluator.get("metric") or () for evaluator in evaluators]
    return any(step.get("with_mask") for step in dataset.get("pipeline") or ()) or any(
        "segm" in ([metric] if isinstance(metric, str) else metric) for metric in metrics
    )


def _check_objects(
    file: CocoFile, loader: str, field: str, dataset: dict, chosen: set, problems: list[Problem]
) -> list[str]:
    """Lines about what is used; raises when too much would be dropped."""
    training = loader == "train_dataloader" and not dataset.get("test_mode")
    filters = (dataset.get("filter_cfg") or {}) if training else {}
    loads = [s for s in dataset.get("pipeline") or () if s.get("with_mask")]
    found = usage(
        file,
        chosen,
        min_size=filters.get("min_size", 0),
        without_run_lengths=training and any(s.get("poly2mask") is False for s in loads),
        is_evaluation=not training,
    )
    found.check()
    verb = "are learnt from" if training else "are evaluated"
    return [
        f"{file.path}: {line}"
        for line in (
            found.sentence(verb),
            *_remarks(file, found, problems),
            *_empty(found, field, training, filters.get("filter_empty_gt", False)),
        )
    ]


def _remarks(file: CocoFile, found: Usage, problems: list[Problem]) -> Iterator[str]:
    """What is wrong without costing an object."""
    if file.areas_set:
        yield (
            f"{file.areas_set:,} objects without a mask have an area of 0 in the file: width x "
            "height of their box is taken"
        )
    dropped = {number for numbers in found.dropped.values() for number in numbers.tolist()}
    names = {f"annotation {file.annotations[number].get('id')}" for number in dropped}
    for kind, what in (
        (Kind.BOX_OUTSIDE, "boxes reach beyond their image"),
        (Kind.BAD_POLYGON, "masks have polygons of fewer than three points, which are left out"),
    ):
        if chosen := [p for p in problems if p.kind == kind and p.entry not in names]:
            yield f"{len(chosen):,} {what} (first: {chosen[0]})"


def _empty(found: Usage, field: str, training: bool, left_out: bool) -> Iterator[str]:
    """Images without objects."""
    if not found.empty:
        return
    if training and left_out:
        yield (
            f"{found.empty:,} of {len(found.file.images):,} images have no objects and are left "
            f"out, as the protocol asks; --cfg-options {field}.filter_cfg.filter_empty_gt=False "
            "keeps them"
        )
    else:
        yield f"{found.empty:,} of {len(found.file.images):,} images have no objects and are kept"


def _check_evaluated(file: CocoFile, other: CocoFile, classes: list[str], with_masks: bool) -> None:
    """The evaluator's own file must list the same images and number the classes in the same way."""
    other.refuse(FATAL, other.problems(set(ids_of(other, classes)), with_masks))
    strange = [i["file_name"] for i in file.images if i["id"] not in other.images_by_id]
    if strange:
        raise UserError(
            f"the evaluator's '{other.path}' does not know {len(strange)} images of '{file.path}', "
            f"first '{strange[0]}': give both the same file"
        )
    if ids_of(file, classes) != ids_of(other, classes):
        raise UserError(
            f"the evaluator's '{other.path}' has other categories than '{file.path}': give both "
            "the same file"
        )
