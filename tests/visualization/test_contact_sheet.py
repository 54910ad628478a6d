"""A contact sheet holds its pictures, whatever their sizes."""

import numpy as np

from milan_mm.visualization.contact_sheet import Cell, contact_sheet
from milan_mm.visualization.pictures import CAPTION_HEIGHT, GAP

CELL = (40, 30)
RED = (255, 0, 0)


def _picture(height: int, width: int, colour: tuple[int, int, int] = RED) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_sixteen_pictures_stand_in_four_rows():
    sheet = contact_sheet([Cell(_picture(30, 40), "a")] * 16, CELL)
    height = 4 * (30 + CAPTION_HEIGHT + GAP) - GAP + CAPTION_HEIGHT
    assert sheet.shape == (height, 4 * (40 + GAP) - GAP, 3)


def test_pictures_keep_their_shape_and_fill_their_cells():
    for height, width, red in ((60, 20, 10 * 30), (10, 40, 10 * 40), (3, 4, 30 * 40)):
        sheet = contact_sheet([Cell(_picture(height, width), "")], CELL)
        assert (sheet == RED).all(axis=2).sum() == red


def test_the_order_is_that_of_the_cells():
    colours = [(10 * i, 0, 200) for i in range(5)]
    sheet = contact_sheet([Cell(_picture(30, 40, c), "") for c in colours], CELL)
    top = 2 * CAPTION_HEIGHT
    found = [tuple(sheet[top + 5, column * (40 + GAP) + 5].tolist()) for column in range(4)]
    assert found == colours[:4]
    assert tuple(sheet[top + 30 + GAP + CAPTION_HEIGHT + 5, 5].tolist()) == colours[4]


def test_a_caption_is_cut_to_the_width_of_its_cell():
    sheet = contact_sheet([Cell(_picture(30, 40), "n01440764 " * 20)] * 2, CELL)
    assert (sheet[:, 40 : 40 + GAP] == 255).all()
    assert (sheet[CAPTION_HEIGHT : 2 * CAPTION_HEIGHT, :40] < 128).any()
