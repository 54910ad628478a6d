"""`benchmark.py speed` on tiny settings."""

import argparse

import cv2
import numpy as np
import pytest
import torch

from milan_mm.benchmark import speed
from milan_mm.benchmark.scale import Run


def settings(**changes) -> argparse.Namespace:
    values = dict(
        arch=["tiny"], batch_size=[2], rounds=1, compile=False, dir=None, workers=None
    ) | dict(precision="float32")
    return argparse.Namespace(**(values | changes))


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="--rounds, --workers and --batch-size must be 1 or more"):
        speed.run(settings(batch_size=[8, 0]))


def test_loaders_without_images_are_refused():
    with pytest.raises(ValueError, match="--workers load the images of --dir"):
        speed.run(settings(workers=2))


@pytest.mark.parametrize(("with_gpu", "batch_size"), [(True, 512), (False, 8)])
def test_a_cpu_gets_a_batch_that_it_can_hold(with_gpu, batch_size, monkeypatch):
    runs = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: with_gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(speed, "matmul_rate", lambda _: 1e12)
    monkeypatch.setattr(speed, "measure", lambda run, *_: runs.append(run.batch_size))
    speed.run(settings(batch_size=None))
    assert runs == [batch_size]


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist: correct --dir"):
        speed.run(settings(dir="nowhere"))


def test_a_folder_without_images_is_named_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "matmul_rate", lambda _: pytest.fail("measured"))
    with pytest.raises(FileNotFoundError, match="has no images: correct --dir"):
        speed.run(settings(dir=str(tmp_path)))


def test_few_images_fill_batch_after_batch(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.full((300, 300, 3), 40 * i, np.uint8))
    batches = speed.loaded(Run().config(), str(tmp_path), batch_size=4, workers=1)
    images = [image for _ in range(3) for image in next(batches)["inputs"]]
    assert {tuple(image.shape) for image in images} == {(3, 224, 224)}
    assert {int(image[0, 0, 0]) // 40 for image in images} <= {0, 1, 2}
    assert len(images) == 12


def test_a_matrix_product_has_a_rate():
    assert speed.matmul_rate(torch.float32, side=64) > 0
