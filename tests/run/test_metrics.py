"""Metrics come back from their file as they were measured."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.run.metrics import check_output, read_metrics, why_no_metric, write_metrics


def test_metrics_are_json_and_undefined_ones_are_null(tmp_path: Path):
    file = tmp_path / "new/metrics.json"
    write_metrics(file, {"mIoU": 48.1, "AP": float("nan"), "loss": float("inf")})
    assert read_metrics(file) == {"mIoU": 48.1, "AP": None, "loss": None}
    json.loads(file.read_text(), parse_constant=lambda name: 1 / 0)  # no NaN in it


def test_a_file_that_cannot_be_written_is_refused_before_there_is_a_metric(tmp_path: Path):
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "new/folder/metrics.json")
    check_output(tmp_path / "file")
    with pytest.raises(ValueError, match="is a folder: give the name of a file in it"):
        check_output(tmp_path)
    with pytest.raises(ValueError, match="file' is not a folder that you can write to"):
        check_output(tmp_path / "file/metrics.json")


@pytest.mark.parametrize(
    ("scope", "settings", "message"),
    [
        ("mmdet", dict(format_only=True, outfile_prefix="out/boxes"), "are in out/boxes"),
        ("mmseg", dict(format_only=True, output_dir="out/labels"), "are in out/labels"),
        ("mmdet", {}, "no detection is above the config's score threshold"),
        ("mmseg", {}, "test_evaluator measured nothing"),
    ],
)
def test_a_test_without_a_metric_says_why(scope: str, settings: dict, message: str):
    cfg = Config(dict(default_scope=scope, test_evaluator=dict(type="Metric", **settings)))
    assert message in why_no_metric(cfg)
