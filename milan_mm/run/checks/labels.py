"""Do the segmentation labels fit images and classes? Check a sample before training."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope

from milan_mm.datasets.conversion import conversion_hint
from milan_mm.datasets.folders import missing_files, spread
from milan_mm.datasets.hidden_class import STATED, refuse_hidden_class
from milan_mm.datasets.image_size import read_header
from milan_mm.datasets.labels import (
    IGNORED,
    LoadLabels,
    UnreadableLabelError,
    label_table,
    read_labels,
)
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.datasets.shared import iter_transforms
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.config_nodes import datasets_of

SAMPLE = 16  # label files read per data set; `LoadLabels` checks every one when it is loaded


def check_labels(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Check that each image has a label, and read some of them; other tasks have none.

    Training skips up to 1 % of missing or damaged labels, as of images; evaluation none.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Returns:
        Lines for the log about labels that will be skipped.

    Raises:
        MissingFileError: When images have no label file.
        UserError: When heads, data and `LoadLabels` disagree on the number of classes, there are
            no images, a label of the sample is refused by `LoadLabels`, or a class is missing in
            the training labels while 255 covers pixels.
    """
    model = cfg.get("model") or {}
    heads = [model.get(name) or {} for name in ("decode_head", "auxiliary_head")]
    counts = {f"model head {h['type']}": h["num_classes"] for h in heads if "num_classes" in h}
    if cfg.get("default_scope") != "mmseg" or not counts:
        return []
    notes = []
    with DefaultScope.overwrite_default_scope("mmseg"):
        for name in loaders:
            for field, dataset in datasets_of(cfg, name):
                # mmengine cannot serialise a list of no images
                unserialised = dict(dataset, serialize_data=False)
                is_stated = STATED in dataset
                notes += _check_dataset(field, DATASETS.build(unserialised), counts, is_stated)
    return notes


def _check_dataset(
    field: str, dataset: BaseDataset, heads: dict[str, int], is_stated: bool
) -> list[str]:
    """See `check_labels`. is_stated: The config says what 255 means."""
    counts = dict(heads)
    if classes := dataset.metainfo.get("classes"):
        counts[f"{field}.metainfo.classes"] = len(classes)
    readers = [step for step in iter_transforms(dataset) if isinstance(step, LoadLabels)]
    if readers:
        counts[f"{field}.pipeline LoadLabels"] = readers[0].num_classes
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{where} {count}" for where, count in counts.items())
        raise UserError(f"the numbers of classes differ: {found}; give all of them one number")
    if not len(dataset):
        raise UserError(
            f"{field} has no images '*{dataset.img_suffix}' in "
            f"'{dataset.data_prefix.get('img_path')}': correct the folder or {field}.img_suffix"
        )
    if not readers or dataset.backend_args:
        return []
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    is_training = field.startswith("train")
    limit = MAX_FAILED_SHARE * len(samples) if is_training else 0
    notes = _check_existence(samples, limit)
    damaged = []
    pixels: np.ndarray = np.zeros(IGNORED + 1, np.int64)
    chosen = spread(samples, min(len(samples), SAMPLE))
    for sample in chosen:
        try:
            readers[0].transform(sample | size_of(sample["img_path"]))
            labels = read_labels(sample["seg_map_path"])
            pixels += np.bincount(labels.ravel(), minlength=IGNORED + 1)[: IGNORED + 1]
        except MissingFileError:
            continue  # counted above
        except UnreadableLabelError as error:
            damaged.append(error)
            if len(damaged) > limit:
                raise
    if damaged:
        notes.append(f"{len(damaged)} of {len(chosen)} labels looked into: {damaged[0]}")
    if is_training and not is_stated and (classes := dataset.metainfo.get("classes")):
        table = label_table(bool(dataset.reduce_zero_label), dataset.label_map)
        files = [sample["seg_map_path"] for sample in samples]
        refuse_hidden_class(files, pixels, table, list(classes))
    return notes


def _check_existence(samples: list[dict], limit: float) -> list[str]:
    missing = set(missing_files(sample["seg_map_path"] for sample in samples))
    lonely = [sample for sample in samples if sample["seg_map_path"] in missing]
    if not lonely:
        return []
    found = (
        f"{len(lonely)} of {len(samples)} images have no label: image "
        f"'{lonely[0]['img_path']}' has no label file '{lonely[0]['seg_map_path']}'"
    )
    if len(lonely) > limit:
        remedy = (
            conversion_hint(lonely[0]["seg_map_path"]) or "add the labels, or remove the images"
        )
        raise MissingFileError(f"{found}; {remedy}")
    return [f"{found}; training skips them"]


def size_of(path: str) -> dict:
    """Height and width of an image as the loader will give them, from the file's header."""
    header = read_header(Path(path))
    return dict(ori_shape=(header.height, header.width)) if header else {}
