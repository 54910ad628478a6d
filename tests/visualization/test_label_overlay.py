"""Label maps over photos: colours, what stays visible, and a legend that fits."""

import numpy as np
import pytest

from milan_mm.visualization.label_overlay import UNLABELLED, blend_classes, draw_classes, legend

GREY = np.full((96, 96, 3), 120, np.uint8)
RED, BLUE, BLACK = (255, 0, 0), (0, 0, 255), (0, 0, 0)


def test_classes_are_blended_unlabelled_pixels_are_not_and_a_legend_follows():
    labels = np.full((96, 96), UNLABELLED)
    labels[:48] = 1
    drawn = draw_classes(GREY, labels, ["cat", "dog"], [BLUE, RED])
    assert drawn.shape[0] > 672 and drawn.shape[1] == 672
    red, green, blue = drawn[100, 100].astype(int)
    assert red > 170 and green == blue < 80
    assert (drawn[600, 100] == 120).all()
    legend = drawn[672:].reshape(-1, 3)
    assert (legend == RED).all(1).any() and not (legend == BLUE).all(1).any()


def test_many_classes_take_several_rows_inside_the_picture():
    labels = np.arange(150).repeat(96 * 96 // 150 + 1)[: 96 * 96].reshape(96, 96)
    names = [f"a rather long name of a class {i}" for i in range(150)]
    drawn = draw_classes(GREY, labels, names, [RED] * 150)
    assert drawn.shape[1] == 672
    assert drawn.shape[0] > 672 + 1000


def test_colours_have_the_share_that_is_asked_for():
    labels = np.array([[0, UNLABELLED]]).repeat(32, axis=1).repeat(64, axis=0)
    drawn = blend_classes(np.zeros((64, 64, 3), np.uint8), labels, [RED], share=0.8)
    assert (drawn[:, :32] == (204, 0, 0)).all() and (drawn[:, 32:] == 0).all()


def test_a_class_without_a_colour_leaves_the_photo_and_unlabelled_pixels_may_have_one():
    labels = np.array([[0, 1, UNLABELLED]]).repeat(32, axis=1).repeat(96, axis=0)
    drawn = blend_classes(GREY, labels, [None, BLUE], share=0.5, unlabelled=BLACK)
    assert (drawn[:, :32] == 120).all()
    assert (drawn[:, 32:64] == (60, 60, 188)).all() and (drawn[:, 64:] == 60).all()


def test_labels_without_a_class_are_left_out():
    labels = np.full((96, 96), 200)
    assert (draw_classes(GREY, labels, ["cat"], [RED]) == 120).any()


@pytest.mark.parametrize(("number", "is_cut"), [(5, False), (60, True)])
def test_a_legend_has_the_classes_that_fit_and_counts_the_others(number: int, is_cut: bool):
    palette = [(40 + 3 * i, 200 - 3 * i, i) for i in range(60)]
    entries = [(f"class {i}", 1 / number, palette[i]) for i in range(number)]
    drawn = legend(entries, 320, 14, most_rows=10)
    assert drawn.shape[1] == 320 and drawn.shape[0] <= 240
    colours = {tuple(c) for c in drawn.reshape(-1, 3).tolist()}
    shown = [colour in colours for colour in palette[:number]]
    assert shown == sorted(shown, reverse=True) and all(shown) is not is_cut and sum(shown) >= 5
