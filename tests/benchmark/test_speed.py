"""`benchmark.py speed` on tiny settings."""

import argparse

import cv2
import numpy as np
import pytest

from milan_mm.benchmark import speed
from milan_mm.benchmark.scale import Run


def settings(**changes) -> argparse.Namespace:
    values = dict(
        arch=["tiny"], batch_size=[2], rounds=1, compile=False, dir=None, workers=1
    ) | dict(precision="float32")
    return argparse.Namespace(**(values | changes))


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="--rounds, --workers and --batch-size must be 1 or more"):
        speed.run(settings(batch_size=[8, 0]))


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist: correct --dir"):
        speed.run(settings(dir="nowhere"))


def test_few_images_fill_batch_after_batch(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.full((300, 300, 3), 40 * i, np.uint8))
    batches = speed.loaded(Run().config(), str(tmp_path), batch_size=4, workers=1)
    images = [image for _ in range(3) for image in next(batches)["inputs"]]
    assert {tuple(image.shape) for image in images} == {(3, 224, 224)}
    assert {int(image[0, 0, 0]) // 40 for image in images} <= {0, 1, 2}
    assert len(images) == 12


def test_a_matrix_product_has_a_rate():
    assert speed.matmul_rate(side=64) > 0
