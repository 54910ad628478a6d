"""The best number of a column is marked only as far as intervals and repeats allow to say so."""

import csv
from io import StringIO

import pytest

from milan_mm.evaluation.formats import render
from milan_mm.evaluation.tables import make_tables
from milan_mm.report.results_page import results_page
from tests.evaluation.rows import result
from tests.evaluation.test_tables import cell, only_table

TIED = "not ranked among each other"


def best_of(*rows: dict, title: str = "ImageNet k-NN top-1") -> set[str]:
    """Methods that are marked as the best."""
    table = only_table(*rows)
    names = [line.method for line in table.lines if line.weights]
    return {name for name in names if any(e.best for e in cell(table, name, title).entries)}


def knn(method: str, value: float, **keys: object) -> dict:
    return result(method, task="knn", value=value, **keys)


@pytest.mark.parametrize(
    ("low", "best"), [(70.4, {"MILAN"}), (70.2, {"MILAN", "MAE"}), (69.0, {"MILAN", "MAE"})]
)
def test_overlapping_intervals_are_not_ranked(low: float, best: set[str]):
    mae = knn("MAE", 70.0, interval=[69.7, 70.3])
    milan = knn("MILAN", 71.0, interval=[low, 71.6])
    poor = knn("DINO", 60.0, interval=[59.0, 61.0])
    assert best_of(mae, milan, poor) == best
    notes = only_table(mae, milan, poor).notes
    assert any(TIED in note for note in notes) == (len(best) > 1)


def test_ranges_of_seeds_and_draws_count_too():
    seeds = [knn("MAE", value, seed=i) for i, value in enumerate((68.0, 72.0))]
    assert best_of(*seeds, knn("MILAN", 71.0, draws=[70.0, 72.0])) == {"MAE", "MILAN"}
    assert best_of(*seeds, knn("MILAN", 74.0, draws=[73.0, 75.0])) == {"MILAN"}


def test_numbers_without_intervals_are_ranked_as_they_are():
    assert best_of(knn("MAE", 70.0), knn("MILAN", 70.1, interval=[69.0, 71.0])) == {"MILAN"}


def test_lower_is_better_for_errors():
    rows = [
        result(name, task="finetune", value=value, metric="mCE", data="ImageNet-C")
        for name, value in (("MAE", 120.0), ("MILAN", 90.0))
    ]
    assert best_of(*rows, title="ImageNet-C finetuned 224 px mCE") == {"MILAN"}


def test_intervals_and_draws_are_in_every_format():
    rows = [
        knn("MAE", 70.0, interval=[69.0, 71.0]),
        knn("MILAN", 80.0, draws=[78.0, 79.5, 82.5], interval=[77.0, 83.0]),
        *(
            knn("DINO", value, seed=i, interval=[value - 2, value + 2])
            for i, value in enumerate((60.0, 61.0))
        ),
    ]
    tables = make_tables(rows)
    text = {kind: render(tables, kind).replace("\\", "") for kind in ("markdown", "latex")}
    page = results_page(rows, "results.jsonl")
    shown = {
        "70.0": ["[69.0, 71.0]"],
        "80.0": ["78.0 to 82.5, 3 draws", "[77.0, 83.0]"],  # the draws' own range
        "60.5": ["60.0 to 61.0, 2 runs", "[58.0, 63.0]"],
    }
    for number, parts in shown.items():
        assert all(part in page for part in (number, *parts))
        (cell,) = (c for c in text["markdown"].split("|") if c.strip(" *").startswith(number))
        assert all(part in cell for part in parts)
        assert all(part in text["latex"] for part in parts)
    lines = csv.DictReader(StringIO(render(tables, "csv")))
    table = {line["method"]: line for line in lines if line["metric"] == "top-1" and line["mean"]}
    ends = {
        name: [table[name][key] for key in ("interval_low", "interval_high", "draws_min")]
        for name in ("MAE", "MILAN", "DINO")
    }
    assert ends == dict(
        MAE=["69.0", "71.0", ""], MILAN=["77.0", "83.0", "78.0"], DINO=["58.0", "63.0", ""]
    )
    assert page.count('class="curve s0"') == 3  # a line for each span


def test_the_best_mean_is_on_top_of_a_plot():
    seeds = [knn("MAE", value, seed=i) for i, value in enumerate((60.0, 80.0))]
    page = results_page([*seeds, knn("MILAN", 75.0)], "results.jsonl")
    plot = page.partition("<figure>")[2]
    assert plot.index(">MILAN<") < plot.index(">MAE<")


@pytest.mark.parametrize(
    ("task", "metric", "title"),
    [
        ("knn-grid", "k=50", "photos k-NN top-1, k=50"),
        ("few-shot-knn", "5-shot", "photos 5-shot k-NN top-1"),
        ("low-data", "1 %", "photos logistic regression on 1 % of train top-1"),
    ],
)
def test_a_column_of_one_setting_of_several_says_which(task: str, metric: str, title: str):
    row = result(task=task, metric=metric, data="photos", config="vit-base-p16")
    assert title in [column.title for column in only_table(row).columns]
