"""`tools/benchmark.py data --profile`: every second of loading belongs to a stage."""

import argparse
from pathlib import Path

import mmpretrain.datasets  # noqa: F401 (prints a line at its first import)
import numpy as np
import pytest
from PIL import Image

from benchmarks import stages
from benchmarks.stages import STAGES
from milan_mm.benchmark.data import OURS, PEER


def test_every_stage_of_both_pipelines_takes_time(tmp_path: Path, capsys: pytest.CaptureFixture):
    rng = np.random.default_rng(0)
    for i in range(32):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    stages.run(argparse.Namespace(dir=str(tmp_path), images=32, rounds=1, size=None, step_rate=1))
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == [OURS, PEER]
    assert [row[:24].strip() for row in rows] == [*STAGES, "sum"]
    milliseconds = np.array([row[24:].split() for row in rows], float)
    assert (milliseconds > 0).all()
    assert milliseconds[:-1].sum(axis=0) == pytest.approx(milliseconds[-1], abs=0.01)
