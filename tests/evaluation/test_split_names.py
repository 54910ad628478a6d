"""The splits may have the same names for every tool that reads class folders."""

from pathlib import Path

import pytest

from milan_mm.configs import load
from milan_mm.datasets.folders import SPLITS
from milan_mm.evaluation.ablation import images_by_class
from milan_mm.evaluation.features import read_image_folder
from milan_mm.evaluation.short import small_images
from milan_mm.run.own_data import set_own_data
from tests.run.own_data.folders import image_folder

RECIPE = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
READERS = dict(
    train=lambda root: set_own_data(load(RECIPE), str(root)),
    knn=lambda root: [read_image_folder(root, split, 32, 1.0) for split in SPLITS],
    ablation=images_by_class,
    short=lambda root: set_own_data(load(RECIPE), str(small_images(root, root / "small"))),
)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("train", SPLITS["train"])
@pytest.mark.parametrize("val", SPLITS["val"])
def test_every_reader_takes_every_name(tmp_path: Path, read, train: str, val: str):
    root = image_folder(tmp_path / "photos")
    (root / "train").rename(root / train)
    (root / "val").rename(root / val)
    assert read(root)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_every_reader_takes_every_type_of_image(tmp_path: Path, read):
    root = image_folder(tmp_path / "photos")
    for path in (root / "train/red").iterdir():
        path.rename(path.with_suffix(".webp"))
    for path in (root / "val/red").iterdir():
        path.rename(path.with_suffix(".tiff"))
    assert read(root)


@pytest.mark.parametrize("name", ["train", "knn", "short"])
def test_a_class_may_be_without_validation_images_in_every_reader(tmp_path: Path, name: str):
    root = image_folder(tmp_path / "photos")
    for path in (root / "val/blue").iterdir():
        path.unlink()
    assert READERS[name](root)
