"""Segmentation on any folder of images, label maps and a classes.txt."""

from pathlib import Path

import numpy as np
from mmengine.config import Config

from milan_mm.datasets.folders import SPLITS, spread
from milan_mm.datasets.labels import IGNORED, UnreadableLabelError, read_labels
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.datasets.pair_folder import (
    MAX_VOID_VALUES,
    find_pairs,
    pair_names,
    read_classes,
    refuse_classless,
)
from milan_mm.errors import UserError
from milan_mm.run.config_nodes import config_nodes
from milan_mm.run.own_data.judged import JUDGED, check_classes
from milan_mm.run.own_data.settings import metainfo, set_dataset, set_num_classes, transforms_of
from milan_mm.run.records.record import Recorded
from milan_mm.text import shorten_list

SAMPLE = 32  # label maps that are looked into, per split


def use_label_pairs(cfg: Config, root: Path, tested: Recorded | None = None) -> list[str]:
    """Take classes from classes.txt: line 1 names label 0, line 2 label 1, and so on.

    Args:
        tested: See `set_own_data`.

    Raises:
        MissingFileError: When classes.txt, a split, or the partner of a file is missing.
        UserError: When classes.txt is not a list of classes, or the labels do not fit them.
    """
    classes = _classes(root / "classes.txt", tested)
    whose = f", those of {tested.path}" if tested else " in classes.txt"
    lines = [f"{len(classes)} classes{whose}: {shorten_list(classes)}"]
    loaders = dict(train_dataloader="train", val_dataloader="val", test_dataloader="val")
    if tested:
        del loaders["train_dataloader"]
    found = {}
    for split in dict.fromkeys(loaders.values()):
        images, labels = find_pairs(root, split, JUDGED if tested else SPLITS[split])
        names, img_suffix, label_suffix = pair_names(images, labels)
        files = [labels / (name + label_suffix) for name in names]
        lines.append(
            f"{len(names)} pairs of '{images}' and '{labels}'; "
            + _look_into(files, classes, is_training=split == "train")
        )
        found[split] = dict(
            data_prefix=dict(
                img_path=str(images.relative_to(root)), seg_map_path=str(labels.relative_to(root))
            ),
            img_suffix=img_suffix,
            seg_map_suffix=label_suffix,
        )
    for loader, split in loaders.items():
        set_dataset(
            cfg,
            loader,
            type="milan_mm.LabelPairs",
            data_root=str(root),
            metainfo=metainfo(classes),
            reduce_zero_label=False,
            **found[split],
        )
        for transform in transforms_of(cfg, loader):
            transform.pop("reduce_zero_label", None)  # the data set says it, once
            set_num_classes(transform, len(classes))
    for _, transform in config_nodes(cfg.get("tta_pipeline")):
        transform.pop("reduce_zero_label", None)
    set_num_classes([cfg.model, cfg.get("tta_pipeline")], len(classes))
    return lines


def _classes(path: Path, tested: Recorded | None) -> list[str]:
    """Those of the file; a checkpoint knows them without it."""
    if tested is None:
        return read_classes(path)
    classes = tested.classes or []
    if path.is_file():
        remedy = "remove it to take those of the checkpoint"
        check_classes(tested.path, classes, path, read_classes(path), remedy)
    return classes


def _look_into(files: list[Path], classes: list[str], is_training: bool) -> str:
    """Check a sample of label maps, spread over all; says how many pixels each kind has.

    Raises:
        UserError: When a file is not a label map, or too many pixels have no class.
    """
    chosen = spread(files, min(len(files), SAMPLE))
    total = np.zeros(IGNORED + 1, dtype=np.int64)
    worst, most, damaged = files[0], -1.0, 0
    for path in chosen:
        try:
            counts = _count_labels(path)
        except UnreadableLabelError:
            damaged += 1  # training skips and counts them, see `LoadLabels`
            if not is_training or damaged > MAX_FAILED_SHARE * len(files):
                raise
            continue
        strange = np.flatnonzero(counts[len(classes) : IGNORED]) + len(classes)
        if len(strange) > MAX_VOID_VALUES:
            raise UserError(
                f"label '{path}' holds {len(strange)} values without a class, first "
                f"{shorten_list(strange)}; classes.txt names 0 to {len(classes) - 1}, and up to "
                f"{MAX_VOID_VALUES} more may mean 'not labelled': correct one of the two"
            )
        share = counts[len(classes) : IGNORED].sum() / counts.sum()
        if share > most:
            worst, most = path, share
        total += counts
    refuse_classless(files[0].parent, total, len(classes), f"most in '{worst}'")
    void = total[len(classes) :]
    values = [f"{v + len(classes)}" for v in np.flatnonzero(void)]
    absent = [classes[i] for i in np.flatnonzero(total[: len(classes)] == 0)]
    line = f"{void.sum() / total.sum():.1%} of the pixels of {len(chosen)} label maps are not "
    line += f"labelled (values {', '.join(values)})" if values else "labelled"
    return line + (f"; no pixel of {shorten_list(absent)}" if absent else "")


def _count_labels(path: Path) -> np.ndarray:
    """Pixels by value: (256,)."""
    labels = read_labels(str(path))
    if labels.max() > IGNORED:
        raise UserError(
            f"label '{path}' has values from {labels.min()} to {labels.max()}, the limits are 0 "
            f"and {IGNORED}: save it with 8 bits per pixel"
        )
    return np.bincount(labels.ravel(), minlength=IGNORED + 1)
