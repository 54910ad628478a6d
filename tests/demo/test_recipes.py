"""The demo does not mix results of different recipes."""

import runpy
from pathlib import Path

import pytest

from milan_mm.results import append_rows


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
