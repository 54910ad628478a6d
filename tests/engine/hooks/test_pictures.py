"""Pictures of a pretraining: when they are drawn, of what, and that they are files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.engine.hooks import pictures
from tests.run.pretraining_runs import SIDE, labelled_images, losses, pretrain, pretraining_config


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return labelled_images(tmp_path_factory.mktemp("pictures") / "images")


def test_pictures_of_the_same_images_are_files_at_the_interval_and_the_end(
    images, tmp_path, monkeypatch
):
    seen = []
    draw = pictures.pretraining_sheet

    def watch(model, shown, **settings):
        assert not model.training
        seen.append(shown)
        return draw(model, shown, **settings)

    monkeypatch.setattr(pictures, "pretraining_sheet", watch)
    pretrain(pretraining_config(images, tmp_path), pictures_interval=4)
    files = sorted(tmp_path.glob("*/vis_data/vis_image/*"))
    assert [file.name for file in files] == ["masks_1.png", "masks_4.png", "masks_6.png"]
    (size,) = {Image.open(file).size for file in files}
    assert size[1] > 4 * SIDE  # four rows
    assert all(np.array_equal(seen[0], later) for later in seen[1:])
    assert len({file.read_bytes() for file in files}) == 3  # but other masks and losses
    assert seen[0].dtype == np.uint8 and seen[0].shape == (4, SIDE, SIDE, 3)


def test_a_picture_that_fails_costs_no_training(images, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("too many pixels")

    monkeypatch.setattr(pictures, "pretraining_sheet", fail)
    pretrain(pretraining_config(images, tmp_path), pictures_interval=4)
    assert len(losses(tmp_path)) == 6
    (log,) = tmp_path.glob("*/*.log")
    text = log.read_text()
    assert "no picture of iteration 4" in text and "MemoryError: too many pixels" in text


def test_colours_are_those_of_the_files(tmp_path):
    images = labelled_images(tmp_path / "images", noise=0)
    runner = pretrain(pretraining_config(images, tmp_path / "run"), pictures_interval=100)
    (hook,) = [h for h in runner.hooks if type(h).__name__ == "PicturesHook"]
    shown = {tuple(map(int, image[0, 0])) for image in hook._images}
    assert shown <= {(40, 60, 220), (30, 180, 60), (220, 40, 50)}


@pytest.mark.parametrize("interval", [None, 1])
def test_without_an_interval_there_are_about_twenty(interval):
    class Run:
        max_iters = 4321

    hook = pictures.PicturesHook(interval)
    hook.before_train(Run())
    assert hook.interval == (216 if interval is None else 1)


def test_bfloat16_is_drawn_too(images, tmp_path):
    """Some parts keep weights that are cast for it."""
    cfg = pretraining_config(images, tmp_path)
    cfg.optim_wrapper.type = "milan_mm.BFloat16OptimWrapper"
    pretrain(cfg, pictures_interval=3)
    assert len(losses(tmp_path)) == 6
    assert len(list(tmp_path.glob("*/vis_data/vis_image/*.png"))) == 3
