"""The best number of a column is marked only as far as intervals and repeats allow to say so."""

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
        knn("MILAN", 80.0, draws=[78.0, 79.5, 82.5]),
    ]
    tables = make_tables(rows)
    text = render(tables, "markdown")
    assert "70.0 [69.0, 71.0]" in text.replace("\\", "")
    assert "80.0** (78.0 to 82.5, 3 draws)" in text
    lines = render(tables, "csv").splitlines()
    (mae,) = (line.split(",") for line in lines if ",MAE," in line and ",70.0," in line)
    place = lines[0].split(",").index("interval_low")
    assert mae[place : place + 2] == ["69.0", "71.0"]
    page = results_page(rows, "results.jsonl")
    assert "[69.0, 71.0]" in page and "78.0 to 82.5, 3 draws" in page
    assert page.count('class="curve s0"') == 2  # a line for each span
