"""`benchmark.py speed` on tiny settings."""

import argparse

import cv2
import numpy as np
import pytest

from benchmarks.flops import step_flops
from milan_mm.benchmark import speed
from milan_mm.benchmark.pretrain_steps import our_config
from milan_mm.models.vit_options import ARCHS


def settings(**changes) -> argparse.Namespace:
    values = dict(
        arch=["tiny"], batch_size=[2], rounds=1, compile=False, dir=None, workers=None
    ) | dict(precision="float32")
    return argparse.Namespace(**(values | changes))


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="--rounds, --workers and --batch-size must be 1 or more"):
        speed.run(settings(batch_size=[8, 0]))


def test_loaders_without_images_are_refused():
    with pytest.raises(ValueError, match="--workers is for loading images: add --data DIR"):
        speed.run(settings(workers=2))


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist: correct --data"):
        speed.run(settings(dir="nowhere"))


def test_a_folder_without_images_is_named_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "matrix_rate", lambda _: pytest.fail("measured"))
    with pytest.raises(FileNotFoundError, match="has no images: correct --data"):
        speed.run(settings(dir=str(tmp_path)))


def test_few_images_fill_batch_after_batch(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.full((300, 300, 3), 40 * i, np.uint8))
    batches = speed.loaded(speed._config("tiny"), str(tmp_path), batch_size=4, workers=1)
    images = [image for _ in range(3) for image in next(batches)["inputs"]]
    assert {tuple(image.shape) for image in images} == {(3, 224, 224)}
    assert {int(image[0, 0, 0]) // 40 for image in images} <= {0, 1, 2}
    assert len(images) == 12


def test_a_line_gives_images_per_second_and_the_share_of_the_matrix_rate(
    tiny_clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    parts = step_flops(our_config(ARCHS["tiny"], tiny_clip, "random"), "PromptingDecoder")
    flops = 2 * sum(both for _, both in parts.values())
    monkeypatch.setattr(speed, "TEACHER", tiny_clip)
    monkeypatch.setattr(speed, "matrix_rate", lambda precision: 8 * flops)
    monkeypatch.setattr(speed, "time_steps", lambda *_: 0.5)
    speed.run(settings())
    images_per_second, seconds, _, share = capsys.readouterr().out.splitlines()[-1].split()[3:]
    assert (images_per_second, seconds) == ("4.0", "0.500")
    assert float(share.rstrip("%")) == pytest.approx(25, rel=0.02)
