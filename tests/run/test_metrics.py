"""Metrics come back from their file as they were measured."""

import json
from pathlib import Path

from milan_mm.run.metrics import read_metrics, write_metrics


def test_metrics_are_json_and_undefined_ones_are_null(tmp_path: Path):
    file = tmp_path / "new/metrics.json"
    write_metrics(file, {"mIoU": 48.1, "AP": float("nan"), "loss": float("inf")})
    assert read_metrics(file) == {"mIoU": 48.1, "AP": None, "loss": None}
    json.loads(file.read_text(), parse_constant=lambda name: 1 / 0)  # no NaN in it
