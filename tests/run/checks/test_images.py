"""A sample of images is looked into before the start of every task that reads folders."""

import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.run.checks.images import SAMPLE, check_images
from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import load
from tests.run.own_data.folders import image_folder, label_pairs, write_image

BOTH = ("train_dataloader", "val_dataloader")
# recipe, and its folder of training images
TASKS = dict(
    pretrain=("pretrain/milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes", "train/red"),
    cls=("cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes", "train/red"),
    seg=("seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96", "images/train"),
)
VAL = dict(pretrain="val", cls="val", seg="images/val")
each_task = pytest.mark.parametrize("task", TASKS)


def _config(task: str, root: Path) -> tuple[Config, Path]:
    """Own data whose splits hold different photos."""
    label_pairs(root, num_images=SAMPLE) if task == "seg" else image_folder(root, per_class=SAMPLE)
    for seed, path in enumerate(sorted((root / VAL[task]).rglob("*.png"))):
        write_image(path, 100 + seed)
    name, folder = TASKS[task]
    cfg = load(name)
    set_own_data(cfg, str(root))
    return cfg, root / folder


@each_task
def test_sound_images_pass_in_silence(task: str, tmp_path: Path):
    cfg, _ = _config(task, tmp_path)
    assert check_images(cfg, BOTH) == []


@each_task
def test_a_damaged_image_of_few_is_refused(task: str, tmp_path: Path):
    cfg, folder = _config(task, tmp_path)
    sorted(folder.iterdir())[-1].write_text("no image")
    with pytest.raises(ValueError, match=rf"1 of {SAMPLE} images .*, the limit is 0 of all: "):
        check_images(cfg, BOTH)


@each_task
def test_a_damaged_image_of_many_is_said(task: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("milan_mm.run.checks.images.MAX_FAILED_SHARE", 0.2)
    cfg, folder = _config(task, tmp_path)
    last = sorted(folder.iterdir())[-1]
    last.write_text("no image")
    (note,) = check_images(cfg, BOTH)
    assert f"1 of {SAMPLE} images looked into" in note
    assert f"first '{last}: cannot identify image file" in note


@each_task
def test_training_images_of_which_most_are_damaged_are_refused(task: str, tmp_path: Path):
    cfg, folder = _config(task, tmp_path)
    root = folder.parent if task != "seg" else folder
    for path in root.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(ValueError, match=rf"{SAMPLE} of {SAMPLE} images .* limit is 0 of all:"):
        check_images(cfg, BOTH)


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_a_damaged_validation_image_is_refused_before_hours_of_training(task: str, tmp_path: Path):
    cfg, _ = _config(task, tmp_path)
    val = tmp_path / VAL[task] / ("" if task == "seg" else "red")
    sorted(val.iterdir())[-1].write_text("no image")
    with pytest.raises(
        ValueError, match=r"1 of 8 images looked into in .*, the limit is 0 of all: .*png"
    ):
        check_images(cfg, BOTH)


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_images_of_both_splits_are_said(task: str, tmp_path: Path):
    cfg, folder = _config(task, tmp_path)
    val = tmp_path / VAL[task] / ("" if task == "seg" else "red")
    shutil.copy(folder / "1.png", val / "1.png")
    (note,) = check_images(cfg, BOTH)
    assert "validation images are training images too, e.g. " in note


def test_splits_of_one_folder_that_a_split_names_are_told_apart(tmp_path: Path):
    cfg, _ = _config("cls", tmp_path)
    for loader, split in zip(BOTH, ("train", "val"), strict=True):
        cfg[loader].dataset = dict(type="ImageNet", data_root=str(tmp_path), split=split)
    assert check_images(cfg, BOTH) == []
    shutil.copy(tmp_path / "train/red/0.png", tmp_path / "val/red/0.png")
    (note,) = check_images(cfg, BOTH)
    assert "1 of 24 validation images are training images too" in note


@pytest.mark.parametrize(
    ("wrap", "is_said"),
    [
        (lambda dataset, i: dataset, True),
        (lambda dataset, i: dict(type="KFoldDataset", dataset=dataset, fold=0), False),
        (lambda dataset, i: dataset | dict(indices=[i]), False),
        (lambda dataset, i: dataset | dict(img_suffix=f"_{i}.png"), False),
    ],
)
def test_parts_of_one_folder_are_not_taken_for_the_same_images(tmp_path: Path, wrap, is_said: bool):
    image_folder(tmp_path)
    dataset = dict(type="CustomDataset", data_root=str(tmp_path), data_prefix="train")
    cfg = Config({loader: dict(dataset=wrap(dataset, i)) for i, loader in enumerate(BOTH)})
    assert bool(check_images(cfg, BOTH)) == is_said
