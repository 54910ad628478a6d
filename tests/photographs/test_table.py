"""The table says what was measured, and ranks nothing that its intervals do not allow."""

import statistics

import pytest

from milan_mm.photographs.cells import CURVE
from milan_mm.photographs.curve import curve_figure
from milan_mm.photographs.summary import Summary, best, difference
from milan_mm.photographs.table import write_table

SETTINGS = dict(images=[16000, 2000], epochs=3)
KNN = "k-NN, class token"


def rows_of(arm: str, *values: float) -> list[dict]:
    """Of a pretraining and of frozen features, a seed each."""
    rows = []
    for seed, value in enumerate(values):
        own = dict(task="photographs", arm=arm, seed=seed, seconds=10.0)
        rows.append(own | dict(part="frozen", metric=KNN, value=value))
        curve = [[0, 5.0 + seed], [1, value]]
        rows.append(
            own | dict(part="pretraining", metric=CURVE, value=value, curve=curve,
                       processor_seconds=100.0 + seed)
        )  # fmt: skip
    return rows


def test_intervals_are_students():
    summary = Summary((20.0, 21.0, 22.0))
    assert summary.half_width == pytest.approx(4.302653 / 3**0.5)
    assert str(summary) == "21.0 ± 2.5"
    assert str(Summary((20.0,))) == "20.0"


def test_overlapping_intervals_are_not_ranked():
    near = {"a": Summary((20.0, 21.0, 22.0)), "b": Summary((22.0, 23.0, 24.0))}
    far = near | {"c": Summary((40.0, 41.0, 42.0))}
    assert best(near) == {"a", "b"}
    assert best(far) == {"c"}
    assert best(far | {"d": Summary((50.0,))}) == set()
    assert difference(near["a"], near["b"]) == "+2.0, not ranked"
    assert difference(near["a"], far["c"]) == "+20.0"
    assert difference(None, near["a"]) == "not run"


def test_the_table_has_means_steps_curves_teachers_and_costs():
    rows = rows_of("mae", 24.0, 25.0, 26.0) + rows_of("milan", 34.0, 35.0, 36.0)
    rows += rows_of("control", 34.5, 35.5, 36.5)
    for metric, value in (
        *(("zero_shot_teacher_classes", 40.0), ("knn_teacher_classes", 41.0)),
        *(("zero_shot_student_classes", 8.0), ("knn_student_classes", 36.2)),
    ):
        rows.append(dict(arm="captions", seed=0, part="teacher", metric=metric, value=value,
                         seconds=500.0, processor_seconds=480.0))  # fmt: skip
    for metric in ("knn_teacher_classes", "knn_student_classes"):
        rows.append(dict(arm="views", seed=0, part="teacher", metric=metric, value=22.0,
                         seconds=600.0, processor_seconds=600.0))  # fmt: skip
    text = write_table(rows, SETTINGS)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    by_title = {line[0]: line for line in reversed(lines)}  # the first of a title
    assert by_title["MAE: pixels (row 1)"][1] == "25.0 ± 2.5"
    milan = by_title["MILAN (row 8)"]
    assert (milan[1], milan[-2:]) == ("**35.0 ± 2.5**", ["3", "101"])
    steps = {(line[0], line[1]): line for line in lines if len(line) > 2}
    assert steps["mae", "milan"][3] == "+10.0"
    assert steps["control", "milan"][3] == "-0.5, not ranked"
    assert ("row-2", "row-7") not in steps
    teacher = by_title["teacher with captions"]
    assert teacher[1:] == ["40.0", "41.0", "8.0", "36.2", "480"]
    assert by_title["teacher of images alone"][1:] == ["-", "22.0", "-", "22.0", "600"]
    assert "standard error of about" in text
    seconds = 3 * sum((100.0, 101.0, 102.0)) + 480.0 + 600.0 + 9 * 10.0
    assert f"All of it: {seconds / 60:.0f} minutes of processor time" in text


def test_the_curve_shows_the_mean_of_the_seeds_at_each_epoch():
    figure = curve_figure(rows_of("mae", 24.0, 25.0, 26.0) + rows_of("milan", 34.0, 35.0, 36.0))
    mae, milan = figure.axes[0].lines
    assert (mae.get_label(), list(mae.get_xdata())) == ("MAE: pixels (row 1)", [0, 1])
    assert list(milan.get_ydata()) == [statistics.mean((5, 6, 7)), 35.0]


def test_a_study_of_which_nothing_is_finished_has_a_table_without_numbers():
    assert "All of it: 0 minutes" in write_table([], SETTINGS)
