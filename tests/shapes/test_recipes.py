"""The demo does not mix results of different recipes."""

import json
from pathlib import Path

import pytest

from milan_mm.evaluation.results import append_rows
from milan_mm.run.jobs import Job
from milan_mm.shapes import demo


def test_numbers_of_other_recipes_are_refused_with_the_remedy(tmp_path: Path):
    results = tmp_path / "results.jsonl"
    append_rows(results, [dict(task="det", config=demo.CONFIGS["det"])])
    demo.check_recipes(results)
    append_rows(results, [dict(task="seg", config="seg/of-last-month")])
    with pytest.raises(ValueError, match=r"has numbers of seg/of-last-month.*--fresh"):
        demo.check_recipes(results)


@pytest.mark.parametrize(("task", "logged"), [("det", 0.25), ("seg", 25.0)])  # mmdet logs shares
def test_all_numbers_of_a_transfer_are_in_percent(tmp_path: Path, task: str, logged: float):
    log = tmp_path / "now/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    lines = [dict(loss=1.0), dict.fromkeys(demo.METRICS[task].values(), logged)]
    log.write_text("\n".join(map(json.dumps, lines)) + "\n")
    rows = demo.DemoCell(Job(task, "mae", "recipe", tmp_path, num_iters=1)).rows()
    assert {row["value"] for row in rows} == {25.0}
    assert {(row["task"], row["init"], row["config"]) for row in rows} == {(task, "mae", "recipe")}
