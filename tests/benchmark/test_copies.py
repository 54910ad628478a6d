"""Copies for `tools/benchmark.py data --short-side`: their bytes, and what crops of them lose."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.benchmark.copies import difference, make_copies
from milan_mm.data.shrinking import Settings

CROPS = dict(scale=32, area=(0.2, 1.0))


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two JPEGs of noise, 80 x 120 pixels, in a folder tree."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / "source" / name for name in ("a/0.jpg", "b/1.jpg")]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (80, 120, 3), np.uint8)).save(path, quality=50)
    return paths


def lost(paths: list[Path], tmp_path: Path, short_side: int) -> float:
    """The mean difference that the sentence states."""
    source, target = tmp_path / "source", tmp_path / f"copies-{short_side}"
    make_copies(paths, source, target, Settings(str(source), short_side, quality=95))
    sentence = difference(paths, source, target, **CROPS)
    return float(re.search(r"originals by ([\d.]+) of 255", sentence)[1])


def test_copies_of_the_same_size_lose_nothing_and_small_ones_much(paths, tmp_path):
    assert lost(paths, tmp_path, short_side=80) == 0  # a better quality only grows: kept as it is
    assert lost(paths, tmp_path, short_side=20) > 10  # noise does not survive


def test_the_sentence_tells_the_bytes_that_the_files_have(paths, tmp_path):
    source, target = tmp_path / "source", tmp_path / "copies"
    sentence = make_copies(paths, source, target, Settings(str(source), 40, 90))
    before = sum(path.stat().st_size for path in paths)
    after = sum((target / path.relative_to(source)).stat().st_size for path in paths)
    assert f"have {after / before:.0%} of the bytes" in sentence
