"""Copies for `tools/benchmark.py data --short-side`: their bytes, and what crops of them lose."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.benchmark.copies import crop_differences, make_copies
from milan_mm.upkeep.shrink import ShrinkSettings

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
