"""The demo does not mix results of different recipes."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from milan_mm.evaluation.results import append_rows


def test_numbers_of_other_recipes_are_refused_with_the_remedy(
    repo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    demo = runpy.run_path(str(repo_root / "tools/demo.py"))
    results = tmp_path / "results.jsonl"
    append_rows(results, [dict(task="det", config=demo["CONFIGS"]["det"])])
    demo["check_recipes"](results)
    append_rows(results, [dict(task="seg", config="seg/of-last-month")])
    with pytest.raises(SystemExit):
        demo["check_recipes"](results)
    error = capsys.readouterr().err
    assert "has numbers of seg/of-last-month" in error and "--fresh" in error


def test_all_numbers_of_a_transfer_are_in_percent(repo_root: Path):
    demo = runpy.run_path(str(repo_root / "tools/demo.py"))
    logs = dict(
        det=dict.fromkeys(demo["METRICS"]["det"].values(), 0.25),  # mmdet logs shares
        seg=dict.fromkeys(demo["METRICS"]["seg"].values(), 25.0),  # mmseg logs %
    )
    for task, logged in logs.items():
        job = SimpleNamespace(task=task, init="mae", config="", logged=lambda row=logged: [row])
        assert {row["value"] for row in demo["result_rows"](job, 1.0)} == {25.0}
