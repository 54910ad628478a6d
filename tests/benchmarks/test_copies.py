"""Copies for `tools/benchmark.py data --short-side`: their bytes, and what crops of them lose."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import copies
from benchmarks.copies import COPIES, compare_all, crop_differences, make_copies
from milan_mm.benchmark.contest import Measurements
from milan_mm.benchmark.data import OURS, PEER
from milan_mm.upkeep.shrink import ShrinkSettings
from tests.benchmark.in_process import InProcessContest

NAMES = ["a/0.jpg", "b/1.jpg"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two JPEGs of noise, 80 x 120 pixels, in a folder tree."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (80, 120, 3), np.uint8)).save(path, quality=50)
    return tmp_path / "source"


def differences(source: Path, short_side: int) -> tuple[float, float]:
    target = source.with_name(f"copies-{short_side}")
    make_copies(NAMES, target, ShrinkSettings(source, short_side, quality=95))
    return crop_differences(NAMES, source, target, scale=32, area=(0.2, 1.0))


def test_copies_of_the_same_size_lose_nothing_and_small_ones_much(source):
    assert differences(source, 80)[0] == 0  # a better quality only grows: kept as it is
    assert differences(source, 20)[0] > 10  # noise does not survive


def test_the_yardstick_is_another_filter_on_the_same_crops(source):
    first, second = differences(source, 80)[1], differences(source, 20)[1]
    assert first == second > 1


def test_the_share_of_bytes_is_that_of_the_files(source, tmp_path):
    share = make_copies(NAMES, tmp_path / "copies", ShrinkSettings(source, 40, 90))
    before, after = (
        sum((folder / name).stat().st_size for name in NAMES)
        for folder in (source, tmp_path / "copies")
    )
    assert share == after / before


def test_ours_is_compared_with_the_peer_from_originals_and_from_copies():
    seconds = {OURS: 0.5, PEER: 1, OURS + COPIES: 0.25, PEER + COPIES: 0.8}
    measured = {name: Measurements(seconds=[time]) for name, time in seconds.items()}
    rows = compare_all(measured, 100, ShrinkSettings(Path("photos"), 60, 90))
    assert [(row.ours, row.peer) for row in rows] == [(200, 100), (400, 100), (400, 125)]
    assert [row.case.partition(", ")[2] for row in rows] == [
        "",
        "ours from copies of 60 pixels",
        "both from copies of 60 pixels",
    ]


def test_the_command_loads_copies_too(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(copies, "Contest", InProcessContest)
    for i in range(32):
        columns = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None], (72, 96, 3))
        Image.fromarray(columns + np.uint8(i)).save(tmp_path / f"{i}.jpg", quality=95)
    options = dict(images=32, rounds=1, size=None, step_rate=4000, quality=None, subsampling=None)
    copies.run(argparse.Namespace(dir=str(tmp_path), short_side=60, **options))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("copies (shorter side 60, quality 90, 420) have ") for line in lines)
    assert [json.loads(line)["bench"] for line in lines[-3:]] == ["data"] * 3
