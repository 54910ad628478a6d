"""Segmentation on any folder of images, label maps and a classes.txt."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config

from milan_mm.datasets.folders import EXTENSIONS, SPLITS, list_images, spread
from milan_mm.datasets.labels import IGNORED, UnreadableLabelError, label_table, read_labels
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.checks.hidden_class import refuse_hidden_class
from milan_mm.run.own_data.judged import JUDGED, check_classes
from milan_mm.run.own_data.settings import metainfo, set_dataset, set_num_classes, transforms_of
from milan_mm.run.record import Recorded
from milan_mm.text import shorten_list

SAMPLE = 32  # label maps that are looked into, per split
# Labels without a class are the pixels that nobody labelled, and these have one value, rarely two;
# many such values, or most of the pixels, mean that the names or the files are others.
MAX_VOID_VALUES = 2
MAX_VOID_SHARE = 0.5
_IMAGES = ("images", "img_dir", "image")
_LABELS = ("annotations", "ann_dir", "labels", "masks", "label", "mask")


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
        images, labels = _find_split(root, split, JUDGED if tested else SPLITS[split])
        names, img_suffix, label_suffix = _pair(images, labels)
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
    set_num_classes(cfg.model, len(classes))
    return lines


def _classes(path: Path, tested: Recorded | None) -> list[str]:
    """Those of the file; a checkpoint knows them without it."""
    if tested is None:
        return _read_classes(path)
    classes = tested.classes or []
    if path.is_file():
        remedy = "remove it to take those of the checkpoint"
        check_classes(tested.path, classes, path, _read_classes(path), remedy)
    return classes


def _read_classes(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingFileError(
            f"'{path}' does not exist: write the names of the classes into it, one per line, that "
            "of label 0 first"
        )
    try:
        names = [name.strip() for name in path.read_text("utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not UTF-8 text: {error}") from None
    if "" in names:
        raise UserError(
            f"line {names.index('') + 1} of '{path}' is blank: each line names a class; give "
            "a label without meaning a name too, or remove the line"
        )
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"'{path}' names {shorten_list(doubled)} more than once: give each a name")
    if not 2 <= len(names) < IGNORED:
        raise UserError(
            f"'{path}' names {len(names)} class(es), the limits are 2 and {IGNORED - 1}: the "
            "background is a class as well"
        )
    return names


def _find_split(root: Path, split: str, names: Sequence[str]) -> tuple[Path, Path]:
    """The folders of images and of labels: images/train or train/images, and the like."""
    looked_for = []
    pairs = []
    for name in names:
        for kinds in (_IMAGES, _LABELS):
            pairs.append([p for k in kinds for p in (root / k / name, root / name / k)])
    for images, labels in zip(pairs[::2], pairs[1::2], strict=True):
        present = [[path for path in places if path.is_dir()] for places in (images, labels)]
        if all(present):
            return present[0][0], present[1][0]
        looked_for += [images[0], labels[0]]
    raise MissingFileError(
        f"'{root}' has no {split} split of images and labels: looked for "
        f"{shorten_list(looked_for, len(looked_for))} and other usual names; put the files there"
    )


def _pair(images: Path, labels: Path) -> tuple[list[str], str, str]:
    """Common names, without suffix, and the suffixes of images and labels."""
    names, suffixes = [], []
    for folder in (images, labels):
        files = list_images(folder)
        counts = Counter(Path(name).suffix for name in files)
        if len(counts) != 1:
            kinds = shorten_list([f"{count} {suffix}" for suffix, count in counts.items()])
            raise UserError(
                f"'{folder}' holds {kinds}: all files must be of one type, one of "
                + " ".join(EXTENSIONS)
            )
        suffixes.append(next(iter(counts)))
        names.append({name.removesuffix(suffixes[-1]) for name in files})
    for i, (folder, other) in enumerate(((images, labels), (labels, images))):
        lonely = sorted(names[i] - names[1 - i])
        if lonely:
            raise MissingFileError(
                f"{len(lonely)} of {len(names[i])} files in '{folder}' have no partner, first "
                f"'{lonely[0]}{suffixes[i]}': add '{other / lonely[0]}{suffixes[1 - i]}', or "
                "remove what has none"
            )
    return sorted(names[0]), suffixes[0], suffixes[1]


def _look_into(files: list[Path], classes: list[str], is_training: bool) -> str:
    """Check a sample of label maps, spread over all; says how many pixels each kind has.

    Raises:
        UserError: When a file is not a label map, too many pixels have no class, or a class hides
            behind 255.
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
    void = total[len(classes) :]
    if void[:-1].sum() > MAX_VOID_SHARE * total.sum():
        raise UserError(
            f"{void[:-1].sum() / total.sum():.0%} of the labelled pixels have no class, most in "
            f"'{worst}'; the limit is {MAX_VOID_SHARE:.0%}: does classes.txt name all labels?"
        )
    if not total[: len(classes)].sum():
        raise UserError(f"no pixel of '{files[0].parent}' has a class, e.g. in '{files[0]}'")
    if is_training:
        table = label_table(False, dict.fromkeys(range(len(classes), IGNORED), IGNORED))
        refuse_hidden_class([*map(str, files)], total, table, classes)
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
