"""Picture tools: every pixel lands where it belongs."""

from io import BytesIO

import numpy as np
from PIL import Image

from milan_mm.visualization.pictures import (
    CAPTION_HEIGHT,
    GAP,
    enlarge,
    grid,
    png_bytes,
)


def test_enlarge_repeats_every_pixel():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarge(picture, 3)
    assert large.shape == (6, 6, 3)
    assert (large[3:, :3] == picture[1, 0]).all()


def test_grid_puts_each_picture_into_its_cell():
    rows = [[np.full((10, 20, 3), 10 * r + c, np.uint8) for c in range(3)] for r in range(2)]
    sheet = grid(rows, ["a", "b", "c"])
    for r in range(2):
        for c in range(3):
            top, left = CAPTION_HEIGHT + r * (10 + GAP), c * (20 + GAP)
            assert (sheet[top : top + 10, left : left + 20] == 10 * r + c).all()


def test_png_bytes_decode_to_the_same_picture():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(BytesIO(png_bytes(picture)))) == picture).all()
