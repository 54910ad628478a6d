"""`--data` of a classification recipe: any ImageFolder."""

from pathlib import Path
from shutil import rmtree

import pytest
from mmengine.config import Config
from mmpretrain.datasets import CustomDataset

from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import load
from tests.run.own_data.folders import COLOURS, image_folder, write_image

RECIPE = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"


def _dataset(cfg: Config, loader: str) -> CustomDataset:
    settings = dict(cfg[loader].dataset, pipeline=[])
    assert settings.pop("type") == "CustomDataset"
    return CustomDataset(**settings)


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader"])
def test_the_folders_are_the_classes_in_alphabetical_order(tmp_path: Path, loader: str):
    cfg = load(RECIPE)
    set_own_data(cfg, str(image_folder(tmp_path)))
    dataset = _dataset(cfg, loader)
    split = "train" if loader == "train_dataloader" else "val"
    found = {dataset.get_data_info(i)["img_path"]: i for i in range(len(dataset))}
    assert len(found) == 6
    for path, i in found.items():
        assert Path(path).parts[-3] == split
        assert dataset.get_data_info(i)["gt_label"] == COLOURS.index(Path(path).parts[-2])
    assert dataset.metainfo["classes"] == COLOURS


def test_head_preprocessor_and_augmentation_get_the_number_of_classes(tmp_path: Path):
    cfg = load(RECIPE)
    cfg.model.data_preprocessor.num_classes = 8
    cfg.data_preprocessor = dict(num_classes=8)
    cfg.model.train_cfg = dict(augments=[dict(type="Mixup", alpha=0.8, num_classes=8)])
    set_own_data(cfg, str(image_folder(tmp_path)))
    assert cfg.model.head.num_classes == 3
    assert cfg.model.data_preprocessor.num_classes == cfg.data_preprocessor.num_classes == 3
    assert cfg.model.train_cfg.augments[0].num_classes == 3


def test_the_summary_says_how_many_images_and_classes_there_are(tmp_path: Path):
    write_image(image_folder(tmp_path) / "train/red/more.png")
    notes = " ".join(set_own_data(load(RECIPE), str(tmp_path)))
    assert f"7 images in '{tmp_path / 'train'}', 6 in '{tmp_path / 'val'}'" in notes
    assert "3 classes of 2 to 3 training images: 'blue', 'green', 'red'" in notes


def test_an_empty_folder_stands_for_a_class_without_validation_images(tmp_path: Path):
    image_folder(tmp_path)
    for path in (tmp_path / "val/blue").iterdir():
        path.unlink()
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    dataset = _dataset(cfg, "val_dataloader")
    assert {dataset.get_data_info(i)["gt_label"] for i in range(len(dataset))} == {1, 2}


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_validation_split_are_known(tmp_path: Path, name: str):
    (image_folder(tmp_path) / "val").rename(tmp_path / name)
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    assert len(_dataset(cfg, "val_dataloader")) == 6


def _unsorted(root: Path) -> None:
    rmtree(root / "val")
    write_image(root / "val/a.png")
    write_image(root / "val/b.png")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda root: rmtree(root / "val"),
            FileNotFoundError,
            r"no folder val or valid or validation, only 'train': sort your images",
        ),
        (
            lambda root: (root / "val/red").rename(root / "val/pink"),
            ValueError,
            r"1 of 3 classes in '.*val' are not among the 3 in '.*train', first 'pink': both",
        ),
        (
            lambda root: rmtree(root / "val/red"),
            ValueError,
            r"'.*val' does not have 1 of the 3 classes of '.*train', first 'red': add images",
        ),
        (
            lambda root: [path.unlink() for path in (root / "train/red").iterdir()],
            ValueError,
            r"1 of 3 classes in '.*train' have no images, first 'red': add images",
        ),
        (
            lambda root: [path.unlink() for path in (root / "val").rglob("*.png")],
            ValueError,
            r"'.*val' has no images: move some",
        ),
        (_unsorted, ValueError, r"'.*val' has 0 class folder\(s\) and 2 images outside of them"),
        (
            lambda root: (root / "train/.cache").mkdir(),
            ValueError,
            r"\.cache' is hidden, and would count as a class: remove it",
        ),
        (
            lambda root: [rmtree(root / "train" / name) for name in ("red", "blue")],
            ValueError,
            r"'.*train' has 1 class folder\(s\)",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, spoil, error, message: str):
    spoil(image_folder(tmp_path))
    with pytest.raises(error, match=message):
        set_own_data(load(RECIPE), str(tmp_path))
