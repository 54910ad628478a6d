"""Masks stored as 0 and 255 are refused, with own data and with the data sets of a recipe."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from milan_mm.datasets.hidden_class import refuse_hidden_class
from milan_mm.datasets.labels import label_table
from milan_mm.run.checks.labels import check_labels
from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.run_options import RunOptions
from tests.recipes.test_configs import load
from tests.run.own_data.folders import label_pairs, write_labels

NAME = "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
CLASSES = ("background", "lake")


def _masks(root: Path, *values: int, split: str = "train") -> None:
    """Label maps of which each value covers a part."""
    for i in range(2):
        labels = np.resize(np.repeat(values, 8), (32, 32))
        write_labels(root / f"annotations/{split}/{i}.png", labels)


def _own(root: Path, *options: str) -> None:
    cfg = load(NAME)
    prepare(cfg, RunOptions(data=str(root), cfg_options=options), RECIPE)
    check_labels(cfg, ("train_dataloader", "val_dataloader"))


def _recipe(root: Path, *options: str, reduces: bool = False) -> None:
    dataset = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="images/train", seg_map_path="annotations/train"),
        img_suffix=".png",
        reduce_zero_label=reduces,
        metainfo=dict(classes=CLASSES),
        pipeline=[dict(type="milan_mm.LoadLabels", num_classes=2)],
    )
    head = dict(type="UPerHead", num_classes=2)
    cfg = dict(default_scope="mmseg", model=dict(decode_head=head))
    cfg = Config(cfg | dict(train_dataloader=dict(dataset=dataset)))
    cfg.merge_from_dict(dict(option.split("=") for option in options))
    check_labels(cfg, ("train_dataloader",))


WAYS = dict(own=_own, recipe=_recipe)
each_way = pytest.mark.parametrize("check", WAYS.values(), ids=WAYS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = label_pairs(tmp_path, CLASSES)
    for split in ("train", "val"):
        _masks(folder, 0, 1, split=split)
    return folder


@each_way
def test_masks_of_0_and_255_are_refused(root: Path, check):
    _masks(root, 0, 255)
    with pytest.raises(ValueError, match=r"no pixel of 'lake' is in 2 .*50% .*: write 1 instead"):
        check(root)


@each_way
def test_a_class_that_does_not_occur_is_accepted_where_255_is_said_to_mean_not_labelled(
    root: Path, check
):
    """Not by taking it out of the list: the labels after it would move by one."""
    _masks(root, 0, 255)
    with pytest.raises(ValueError, match="does not occur, pass --cfg-options ") as error:
        check(root)
    check(root, str(error.value).rpartition("--cfg-options ")[2])


@each_way
def test_255_beside_all_classes_means_not_labelled(root: Path, check):
    _masks(root, 0, 1, 255)
    check(root)


@each_way
def test_a_class_that_does_not_occur_is_no_fault_without_255(root: Path, check):
    _masks(root, 0)
    check(root)


@each_way
def test_validation_may_lack_a_class(root: Path, check):
    _masks(root, 0, 255, split="val")
    check(root)


def test_values_are_those_of_the_files_where_zero_means_no_label(root: Path):
    _masks(root, 0, 1, 2)
    _recipe(root, reduces=True)
    _masks(root, 1, 255)
    with pytest.raises(ValueError, match=r"no pixel of 'lake' .*: write 2 instead of 255"):
        _recipe(root, reduces=True)


def test_a_class_that_the_sample_missed_is_looked_for_in_all_labels(root: Path):
    files = [str(root / f"annotations/train/{i}.png") for i in range(2)]
    counts = np.bincount([0, 255], minlength=256)
    refuse_hidden_class(files, counts, label_table(False, {}), CLASSES)
