"""Drawings show what was found, at a size that can be read."""

import numpy as np
import pytest

from milan_mm.visualization.drawing import _place, draw_detections, draw_ranking, side_by_side
from milan_mm.visualization.lettering import LEGIBLE, enlarged, shorten

GREY = np.full((96, 96, 3), 120, np.uint8)
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(("side", "expected"), [(96, 672), (128, 640), (500, 500), (2000, 2000)])
def test_small_pictures_grow_by_a_whole_number(side: int, expected: int):
    assert enlarged(np.zeros((side, side, 3), np.uint8)).shape[:2] == (expected, expected)


def test_a_mask_is_tinted_and_the_rest_is_left_alone():
    mask = np.zeros((1, 96, 96), bool)
    mask[0, 20:60, 20:60] = True
    box, label = np.array([[20, 20, 60, 60]]), np.array([0])
    drawn = draw_detections(GREY, box, label, ["cat"], [RED], np.array([0.9]), mask)
    zoom = drawn.shape[0] // 96
    red, green, _ = drawn[50 * zoom, 40 * zoom].astype(int)
    assert red > 150 and green < 90
    assert (drawn[80 * zoom :, 80 * zoom :] == 120).all()


def test_the_first_object_is_drawn_on_top():
    boxes, labels = np.array([[10, 10, 80, 80]] * 2), np.array([1, 0])
    drawn = draw_detections(GREY, boxes, labels, ["cat", "dog"], [RED, BLUE])
    zoom = drawn.shape[0] // 96
    assert tuple(drawn[80 * zoom, 50 * zoom]) == BLUE


def test_names_of_neighbours_are_not_written_over_each_other(monkeypatch):
    places = []
    monkeypatch.setattr(
        "milan_mm.visualization.drawing._place",
        lambda *arguments: places.append(_place(*arguments)) or places[-1],
    )
    boxes = np.array([[30, 40, 60, 60], [31, 41, 61, 61], [32, 42, 62, 62]])
    draw_detections(GREY, boxes, np.zeros(3, int), ["cat"], [RED], np.array([0.9, 0.8, 0.7]))
    for i, (left, top, right, bottom) in enumerate(places):
        assert 0 <= left < right <= 672 and 0 <= top < bottom <= 672
        for other in places[:i]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart


def test_nothing_found_leaves_the_picture():
    drawn = draw_detections(GREY, np.zeros((0, 4)), np.zeros(0, int), ["cat"], [RED])
    assert (drawn == 120).all()


def test_bars_are_as_long_as_the_probabilities():
    drawn = draw_ranking(GREY, [("cat", 0.75), ("dog", 0.25)])
    bars = (drawn[672:] == (0, 114, 178)).all(2)
    lengths = sorted({int(row.sum()) for row in bars if row.any()})
    assert len(lengths) == 2 and lengths[1] / lengths[0] == pytest.approx(3, rel=0.05)


def test_long_names_are_cut_to_their_place(monkeypatch):
    class Font:
        def getlength(self, text: str) -> int:
            return 10 * len(text)

    assert shorten("a long name", Font(), 60) == "a lon…"  # type: ignore[arg-type]
    assert shorten("short", Font(), 60) == "short"  # type: ignore[arg-type]


def test_pictures_of_two_heights_stand_side_by_side():
    tall = np.zeros((LEGIBLE + 50, 300, 3), np.uint8)
    both = side_by_side([tall, tall[:LEGIBLE]], ["left", "right"])
    assert both.shape[0] > tall.shape[0] and both.shape[1] > 600
    assert (both[-1, -1] == 255).all() and (both[-1, 0] == 0).all()
