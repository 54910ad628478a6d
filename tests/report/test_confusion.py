"""A confusion matrix on a page: numbers for a few classes, a picture and the worst for many."""

import json

import numpy as np
import pytest

from milan_mm.report.confusion import confusion_body, newest_confusion
from tests.report.html import read


def _page(folder, classes, matrix) -> str:
    content = dict(classes=classes, unit="pixels", matrix=matrix)
    (folder / "confusion.json").write_text(json.dumps(content))
    return f"<html><style></style><body>{confusion_body(newest_confusion(folder))}</body></html>"


def test_a_few_classes_are_a_table_of_shares(tmp_path):
    page = _page(tmp_path, ["<sky>", "road", "never"], [[90, 10, 0], [50, 50, 0], [0, 0, 0]])
    words = read(page).words
    assert "<sky> 90 10 0 road 50 50 0 never" in words and "70.0% of 200 pixels are right" in words
    assert "<sky> taken for road: 10 pixels" in [cell.get("title") for cell in read(page).all("td")]


def test_many_classes_are_a_picture_and_the_worst_of_them(tmp_path):
    matrix = np.eye(150, dtype=int) * 100
    matrix[3, 7], matrix[9, 2] = 300, 50
    reader = read(_page(tmp_path, [f"c{i}" for i in range(150)], matrix.tolist()))
    assert len(reader.all("img")) == 1
    assert "c3 c7 75.0 300 c9 c2 33.3 50" in reader.words


@pytest.mark.parametrize("matrix", [[[0]], [[1, 2]], [[-1]], "x", None])
def test_no_matrix_is_left_out(tmp_path, matrix):
    assert read(_page(tmp_path, ["a"], matrix)).words == ""
