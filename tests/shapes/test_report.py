"""The report holds the numbers and pictures it was given, and nothing from elsewhere."""

import re

import numpy as np

from milan_mm.shapes.report import Figure, report_html


def _row(task: str, init: str, metric: str, value: float) -> dict:
    return dict(task=task, init=init, metric=metric, value=value, seconds=12.3)


ROWS = [
    _row("pretrain", "mae", "loss, last", 0.9),
    _row("pretrain", "milan", "loss, last", 0.4),
    _row("det", "scratch", "box AP50", 10.0),
    _row("det", "mae", "box AP50", 20.0),
    _row("det", "milan", "box AP50", 30.0),
]
FIGURE = Figure("Look <here>", "caption & more", np.zeros((2, 2, 3), np.uint8))


def test_best_value_of_a_row_is_marked_and_only_that():
    page = report_html(ROWS, [], "text", num_parallel=2)
    assert re.findall(r'class="number best">([\d.]+)', page) == ["30.0"]


def test_losses_of_different_targets_are_not_ranked():
    page = report_html(ROWS[:2], [], "text", num_parallel=2)
    assert 'best">' not in page and "0.400" in page and "0.900" in page


def test_the_file_needs_nothing_else():
    page = report_html(ROWS, [FIGURE], "text", num_parallel=2)
    sources = re.findall(r'(?:src|href)="([^"]{0,22})', page)
    assert sources == ["data:image/png;base64,"]


def test_text_is_escaped():
    page = report_html(ROWS, [FIGURE], "1 < 2", num_parallel=2)
    assert "1 &lt; 2" in page and "Look &lt;here&gt;" in page and "caption &amp; more" in page


def test_figures_with_text_are_shrunk_smoothly():
    assert 'class="pixels"' not in report_html(ROWS, [FIGURE], "text", num_parallel=2)
