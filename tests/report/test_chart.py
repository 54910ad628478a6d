"""Charts: honest when thinned, round numbers at the ticks, no curve told apart by colour alone."""

import re
from datetime import timedelta
from importlib import resources

import numpy as np
import pytest

from milan_mm.report.axes import duration, linear_axis, log_axis, number, tick_labels, tight_axis
from milan_mm.report.chart import COLUMNS, Chart, Series, line_chart, thin
from milan_mm.report.dots import DotRow, dot_plot
from tests.report.html import read


def _page(body: str) -> str:
    return f"<html><style></style><body>{body}</body></html>"


def test_a_thinned_curve_keeps_every_peak_and_the_mean():
    rng = np.random.default_rng(0)
    y = rng.normal(size=16_000)
    y[7_777] = 50.0  # a single spike
    columns = thin(range(16_000), y.tolist())
    assert len(columns) == COLUMNS
    assert max(c.high for c in columns) == 50.0 and min(c.low for c in columns) == y.min()
    assert all(c.low <= c.mean <= c.high for c in columns)
    assert np.mean([c.mean for c in columns]) == pytest.approx(y.mean(), abs=1e-2)


def test_a_short_curve_is_not_thinned():
    columns = thin([1, 2, 5], [3.0, 1.0, 2.0])
    assert [(c.x, c.low, c.mean, c.high) for c in columns] == [
        (1, 3.0, 3.0, 3.0),
        (2, 1.0, 1.0, 1.0),
        (5, 2.0, 2.0, 2.0),
    ]


def test_a_page_of_long_curves_stays_small():
    x = list(range(400_000))
    chart = Chart("Loss", "update", "", [Series("loss", x, [1.0 / (i + 1) for i in x])], log=True)
    assert len(line_chart(chart)) < 40_000


@pytest.mark.parametrize(
    ("axis", "ends", "labels"),
    [
        (linear_axis(0.13, 0.93, 0, 1), (0, 1), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (linear_axis(5.0, 5.0, 0, 1), (4.4, 5.6), ["4.4", "4.6", "4.8", "5", "5.2", "5.4", "5.6"]),
        (tight_axis(0, 160_000, 0, 1), (0, 160_000), ["0", "50k", "100k", "150k"]),
        (log_axis(0.03, 90.0, 0, 1), (0.01, 100), ["0.01", "0.1", "1", "10", "100"]),
        (log_axis(0.9, 8.0, 0, 1), (0.5, 10), ["0.5", "1", "2", "5", "10"]),
    ],
)
def test_axes_have_round_numbers(axis, ends, labels):
    assert (axis.low, axis.high) == pytest.approx(ends)
    assert axis.labels == labels
    assert (axis.at(axis.low), axis.at(axis.high)) == pytest.approx((0, 1))


def test_numbers_read_as_people_write_them():
    assert [number(v) for v in (0.4512345, 12.0, 0.00002, 123_456, 0)] == [
        "0.4512",
        "12",
        "2e-5",
        "123,456",
        "0",
    ]
    assert tick_labels([0, 2_500_000]) == ["0", "2.5M"]


@pytest.mark.parametrize(
    ("values", "uses_log"), [((0.5, 40.0), True), ((1.0, 2.0), False), ((0.0, 40.0), False)]
)
def test_a_log_scale_is_taken_where_it_shows_more_and_said(values, uses_log):
    chart = Chart("Loss", "update", "", [Series("loss", [0, 1], values)], log=True)
    assert ("log scale" in line_chart(chart)) == uses_log


def test_curves_differ_in_more_than_colour_and_have_a_legend():
    series = [Series(f"<{i}>", [0, 1], [i, i + 1]) for i in range(7)]
    picture = line_chart(Chart("Terms", "update", "", series))
    reader = read(_page(picture))
    styles = {str(line.get("class")) for line in reader.all("line")}
    assert len({style for style in styles if "curve" in style}) == 7
    assert all(f"<{i}>" in reader.words for i in range(7))
    css = (resources.files("milan_mm.report") / "page.css").read_text()
    dashes = re.findall(r"\.s(\d) \{ stroke-dasharray: ([\d ]+);", css)
    assert len(dashes) == 6 and len({dash for _, dash in dashes}) == 6  # .s0 is solid


def test_the_values_of_a_place_are_said_there():
    chart = Chart("Loss", "epoch", "", [Series("a", [1, 2], [5, 6]), Series("b", [2], [7])])
    titles = re.findall(r"<title>(.+?)</title>", line_chart(chart), re.DOTALL)
    assert titles == ["epoch 1\na: 5", "epoch 2\na: 6\nb: 7"]


def test_dots_show_each_run_its_range_and_the_published_number():
    picture = dot_plot("AP", "paper", "%", [DotRow("A", [50.0, 50.5], 50.3), DotRow("B", [], 47.0)])
    reader = read(_page(picture))
    assert len(reader.all("circle")) == 2
    assert len([p for p in reader.all("path") if p["class"] == "hollow"]) == 2
    assert "A, published: 50.3" in picture and "A: 50.00, 50.50" in picture


def test_metres_are_not_drawn_in_a_point_of_a_percent():
    picture = dot_plot("RMSE", "paper", "m", [DotRow("A", [0.373]), DotRow("B", [0.352])])
    places = [float(circle["cx"]) for circle in read(_page(picture)).all("circle")]
    assert places[0] - places[1] > 150  # pixels
    assert "A: 0.373" in picture


def test_a_single_number_needs_no_picture():
    assert not dot_plot("AP", "", "%", [DotRow("A", [50.0])])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (42, "42 s"), (3_725, "1 h 2 min"), (180_000, "2 d 2 h"), (86_400, "1 d")],
)
def test_times_have_two_units(seconds, text):
    assert duration(timedelta(seconds=seconds)) == text
