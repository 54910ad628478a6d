"""Class folders of the splits agree, with each other and with the head, before any run of cls."""

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import pytest
from mmengine.config import Config, ConfigDict
from mmpretrain.datasets import CustomDataset, ImageNet

from milan_mm.run.checks.classes import check_classes
from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import load
from tests.run.own_data.folders import COLOURS, image_folder

NAME = "cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k"
LOADERS = dict(
    train=("train_dataloader", "val_dataloader"),
    test=("test_dataloader",),
    evaluate=("train_dataloader", "val_dataloader", "test_dataloader"),
)
each_use = pytest.mark.parametrize("use", LOADERS)


def _config(root: Path, num_classes: int = 3) -> Config:
    """A recipe with its own data sets, in another place."""
    cfg = load(NAME)
    cfg.model.head.num_classes = num_classes
    for loader in LOADERS["evaluate"]:
        cfg[loader].dataset.data_root = str(root)
    return cfg


@each_use
def test_equal_folders_pass_empty_ones_too(tmp_path: Path, use: str):
    image_folder(tmp_path)
    for path in (tmp_path / "val/blue").iterdir():
        path.unlink()
    assert check_classes(_config(tmp_path), LOADERS[use]) == []


@each_use
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: rmtree(root / "val/green"), "'.*val' does not have 1 of the 3 classes of"),
        (lambda root: rmtree(root / "train/green"), "1 of 3 classes in '.*val' are not among"),
        (
            lambda root: (root / "val/red").rename(root / "val/pink"),
            "not among the 3 in '.*train', first 'pink'",
        ),
    ],
)
def test_a_class_in_one_split_only_is_refused_as_with_own_data(
    tmp_path: Path, use: str, spoil: Callable[[Path], None], message: str
):
    spoil(image_folder(tmp_path))
    with pytest.raises(ValueError, match=message):
        check_classes(_config(tmp_path), LOADERS[use])
    with pytest.raises(ValueError, match=message):
        set_own_data(load(NAME), str(tmp_path))


@each_use
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_hidden_folder_is_no_class_to_be_added_elsewhere(tmp_path: Path, use: str, split: str):
    (image_folder(tmp_path) / split / ".ipynb_checkpoints").mkdir()
    with pytest.raises(ValueError, match="is hidden, and would count as a class: remove it"):
        check_classes(_config(tmp_path, 4), LOADERS[use])


@each_use
def test_more_classes_than_the_head_are_refused(tmp_path: Path, use: str):
    image_folder(tmp_path)
    with pytest.raises(ValueError, match=r"has 3 classes, model\.head\.num_classes is 2: pass"):
        check_classes(_config(tmp_path, 2), LOADERS[use])


def test_fewer_classes_than_the_head_are_said(tmp_path: Path):
    (note,) = check_classes(_config(image_folder(tmp_path), 1000), LOADERS["train"])
    assert "has 3 classes, fewer than the head's 1000" in note


def test_a_machine_without_training_images_tests_all_classes_or_none(tmp_path: Path):
    rmtree(image_folder(tmp_path) / "train")
    assert check_classes(_config(tmp_path, len(COLOURS)), LOADERS["test"]) == []
    rmtree(tmp_path / "val/red")
    with pytest.raises(ValueError, match="has 2 of the head's 3 classes, and its folders number"):
        check_classes(_config(tmp_path), LOADERS["test"])


def test_samples_that_a_file_names_have_no_class_folders(tmp_path: Path):
    cfg = _config(image_folder(tmp_path))
    rmtree(tmp_path / "val/red")
    cfg.val_dataloader.dataset.ann_file = "val.txt"
    assert check_classes(cfg, LOADERS["train"]) == []


@each_use
@pytest.mark.parametrize("kind", ["ImageNet", "CustomDataset", ImageNet, CustomDataset])
def test_every_way_to_name_a_split_is_compared(tmp_path: Path, use: str, kind: str | type):
    rmtree(image_folder(tmp_path) / "val/green")
    cfg = _config(tmp_path)
    for loader, split in zip(LOADERS["evaluate"], ("train", "val", "val"), strict=True):
        where = "split" if "ImageNet" in str(kind) else "data_prefix"
        cfg[loader].dataset = ConfigDict({"type": kind, "data_root": str(tmp_path), where: split})
    with pytest.raises(ValueError, match=r"'.*val' does not have 1 of the 3 classes of '.*train'"):
        check_classes(cfg, LOADERS[use])
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/val.txt").touch()  # mmpretrain's ImageNet takes labels from there
    if where == "split":
        assert check_classes(cfg, LOADERS[use]) == []
