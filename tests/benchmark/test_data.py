"""`tools/benchmark.py data`: equal augmentation is checked before rates are compared."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.hub import get_config
from PIL import Image

from milan_mm.benchmark import data
from milan_mm.benchmark.contest import Comparison, Measurements
from milan_mm.benchmark.data import (
    check_agreement,
    compare_rates,
    open_images,
    run,
    verdict,
    with_size,
)
from milan_mm.configs import load
from tests.benchmark.in_process import InProcessContest

OUR_RECIPE = "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"
PEER_RECIPE = "mmpretrain::milan/milan_vit-base-p16_16xb256-amp-coslr-400e_in1k.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 JPEGs of stripes and waves, of two sizes."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(32):
        rows, columns = np.mgrid[: 120 + 40 * (i % 2), :160]
        pixels = np.stack([rows, columns, rows * columns // (8 + i) % 200], axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def ours() -> list[dict]:
    return load(OUR_RECIPE).train_dataloader.dataset.pipeline


@pytest.fixture(scope="module")
def peer() -> list[dict]:
    return get_config(PEER_RECIPE).train_dataloader.dataset.pipeline


def test_both_pipelines_draw_the_same_boxes_and_flips(folder, ours, peer):
    sentence = check_agreement(ours, peer, str(folder), 32)
    assert sentence.startswith("32 images have equal crop boxes and flips; pixels differ by 0.")


@pytest.mark.parametrize(
    ("name", "change"), [("RandomResizedCrop", dict(crop_ratio_range=(0.3, 1))), ("Flip", None)]
)
def test_another_augmentation_is_no_fair_comparison(folder, ours, peer, name, change):
    other = [
        dict(step, **(change or dict(prob=0.9))) if name in step["type"] else step for step in peer
    ]
    with pytest.raises(RuntimeError, match="the augmentations differ: milan_mm drew box and flip"):
        check_agreement(ours, other, str(folder), 32)


def test_other_pixels_are_no_fair_comparison(folder, ours, peer):
    other = [
        dict(step, interpolation="nearest") if step["type"] == "RandomResizedCrop" else step
        for step in peer
    ]
    with pytest.raises(RuntimeError, match=r"pixels differ by .* the limit of the mean is 1"):
        check_agreement(ours, other, str(folder), 32)


def test_both_pipelines_get_the_same_other_size(ours, peer):
    for pipeline in (ours, peer):
        sizes = [step["scale"] for step in with_size(pipeline, 96) if "scale" in step]
        assert sizes == [96]
        assert with_size(pipeline, None) == pipeline


def test_a_folder_without_a_batch_of_images_is_refused(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.jpg")
    with pytest.raises(FileNotFoundError, match=r"1 images of .* give --data a larger folder"):
        open_images([], str(tmp_path), 200)
    with pytest.raises(FileNotFoundError, match="does not exist: correct --data"):
        open_images([], str(tmp_path / "none"), 200)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty' has no images: correct --data"):
        open_images([], str(tmp_path / "empty"), 200)


@pytest.mark.parametrize(
    ("name", "value"), [("images", -5), ("rounds", 0), ("size", 0), ("step_rate", float("nan"))]
)
def test_numbers_below_one_are_refused_before_anything_is_loaded(name, value):
    numbers = dict(images=32, rounds=1, size=None, step_rate=4000) | {name: value}
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} {value}: give 1 or more"):
        run(argparse.Namespace(dir="nowhere", **numbers))


def test_throughput_is_images_per_second_and_more_is_better():
    ours, peer = Measurements(seconds=[0.5, 0.25, 1]), Measurements(seconds=[1, 1, 2])
    row = compare_rates("photos", ours, peer, 100)
    assert (row.ours, row.peer, row.gain) == (200, 100, 2)
    assert row.spread == "100 to 400 against 50 to 100"


def test_settings_of_copies_need_copies():
    numbers = dict(images=32, rounds=1, size=None, step_rate=4000)
    for option in (dict(quality=80, subsampling=None), dict(quality=None, subsampling="444")):
        with pytest.raises(ValueError, match="belong to copies: add --short-side N"):
            run(argparse.Namespace(dir="nowhere", **numbers, **option))


@pytest.mark.parametrize(("step_rate", "limit"), [(12000, "loading"), (400, "the model")])
def test_the_verdict_compares_loading_with_the_model(step_rate, limit):
    row = Comparison("data", "photos", "throughput", 800, 400, "images/s per core")
    sentence = verdict(row, step_rate, num_workers=12)
    assert f"needs {step_rate / 800:.1f} loader cores" in sentence
    assert sentence.endswith(f"with the recipe's 12 workers, {limit} limits training.")


def test_the_command_prints_verdict_and_a_json_line(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(data, "Contest", InProcessContest)
    options = dict(images=32, rounds=1, size=None, step_rate=4000, quality=None, subsampling=None)
    run(argparse.Namespace(dir=str(folder), **options))
    lines = capsys.readouterr().out.splitlines()
    row = json.loads(lines[-1])
    assert row.keys() == {"bench", "case", "metric", "ours", "peer", "unit", "gain"}
    assert (row["bench"], row["metric"]) == ("data", "throughput")
    assert any(line.startswith("A GPU that trains on 4000 images/s needs ") for line in lines)
