"""Labels that do not fit are found before the start, by one sentence that names the file."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from milan_mm.run.checks.labels import SAMPLE, check_labels

LOADERS = ("train_dataloader", "val_dataloader")
NUM_IMAGES = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 9 x 6 pixels with labels of three classes, in folders as ADE20K has them."""
    for part in ("images", "annotations"):
        (tmp_path / part).mkdir()
    generator = np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        image = generator.integers(0, 255, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{i:03d}.jpg")
        _save_label(tmp_path, i, generator.integers(0, 3, (6, 9), dtype=np.uint8))
    return tmp_path


def _save_label(folder: Path, index: int, values: np.ndarray) -> None:
    Image.fromarray(values).save(folder / f"annotations/{index:03d}.png")


def _config(folder: Path, num_classes: int = 3, **changes) -> Config:
    dataset = dict(
        type="BaseSegDataset",
        data_root=str(folder),
        data_prefix=dict(img_path="images", seg_map_path="annotations"),
        metainfo=dict(classes=tuple("abc")),
        pipeline=[
            dict(type="milan_mm.LoadImage"),
            dict(type="milan_mm.LoadLabels", num_classes=num_classes),
        ],
    )
    wrapped = dict(type="mmengine.RepeatDataset", times=2, dataset=dataset | changes)
    heads = dict(type="UPerHead", num_classes=3), dict(type="FCNHead", num_classes=3)
    return Config(
        dict(
            default_scope="mmseg",
            model=dict(decode_head=heads[0], auxiliary_head=heads[1]),
            train_dataloader=dict(dataset=wrapped),
            val_dataloader=None,
        )
    )


def test_labels_that_fit_pass(folder: Path):
    check_labels(_config(folder), LOADERS)


def test_a_systematic_fault_is_found_before_the_start(folder: Path):
    for i in range(NUM_IMAGES):
        _save_label(folder, i, np.full((6, 9), 3, np.uint8))
    with pytest.raises(ValueError, match=r"label '.*000\.png' holds 3; allowed are 0\.\.2"):
        check_labels(_config(folder), LOADERS)


def test_colours_instead_of_numbers_are_found_before_the_start(folder: Path):
    for i in range(NUM_IMAGES):
        _save_label(folder, i, np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(ValueError, match=r"label '.*000\.png' has 3 channels"):
        check_labels(_config(folder), LOADERS)


def test_the_first_and_the_last_label_are_in_the_sample(folder: Path):
    assert SAMPLE < NUM_IMAGES
    _save_label(folder, NUM_IMAGES - 1, np.zeros((6, 8), np.uint8))
    with pytest.raises(ValueError, match=r"039\.png' has 8x6 pixels, its image '.*039\.jpg' has 9"):
        check_labels(_config(folder), LOADERS)


def test_a_turned_photo_has_the_size_that_its_loader_gives_it(folder: Path):
    image = Image.open(folder / "images/000.jpg").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    image.save(folder / "images/000.jpg", exif=exif)
    check_labels(_config(folder), LOADERS)


def test_every_image_without_label_is_counted_and_the_first_is_named(folder: Path):
    for i in (7, 21):
        (folder / f"annotations/{i:03d}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 of 40 images have no label: image '.*007\.jpg"):
        check_labels(_config(folder), LOADERS)


def test_images_of_another_ending_than_expected_are_named(folder: Path):
    with pytest.raises(ValueError, match=r"dataloader\.dataset\.dataset has no images '\*\.b"):
        check_labels(_config(folder, img_suffix=".bmp"), LOADERS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_classes=2), "pipeline LoadLabels 2; give all of them one number"),
        (dict(metainfo=dict(classes=("a", "b"))), r"metainfo\.classes 2"),
    ],
)
def test_numbers_of_classes_that_differ_are_told_apart(folder: Path, settings: dict, message: str):
    with pytest.raises(ValueError, match=rf"differ: model head UPerHead 3, .*{message}"):
        check_labels(_config(folder, **settings), LOADERS)


def test_an_unreadable_image_is_left_to_the_loader(folder: Path):
    (folder / "images/000.jpg").write_text("no image")
    check_labels(_config(folder), LOADERS)


def test_other_tasks_have_no_labels_to_check():
    check_labels(Config(dict(default_scope="mmdet", model={})), LOADERS)


@pytest.mark.parametrize("kind", ["missing", "damaged"])
def test_few_labels_that_training_skips_are_said(folder: Path, monkeypatch, kind: str):
    monkeypatch.setattr("milan_mm.run.checks.labels.MAX_FAILED_SHARE", 0.03)  # 1 of 40
    path = folder / "annotations/000.png"
    path.unlink() if kind == "missing" else path.write_bytes(path.read_bytes()[:40])
    (note,) = check_labels(_config(folder), LOADERS)
    assert str(path) in note
    cfg = _config(folder)
    cfg.val_dataloader, cfg.train_dataloader = cfg.train_dataloader, None
    with pytest.raises(ValueError, match=r"000\.png'"):
        check_labels(cfg, LOADERS)
