"""Sixteen captioned pictures on one sheet."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from milan_mm.visualization.lettering import load_font, shorten
from milan_mm.visualization.pictures import BACKGROUND, CAPTION_HEIGHT, grid

COLUMNS = 4
NUM_CELLS = COLUMNS * COLUMNS
CELL_SIZE = (320, 240)  # width and height of a picture in pixels
_CAPTION = 11  # pixels
LEGEND = "legend"  # caption of a cell that is not an image


class Cell(NamedTuple):
    """A picture (H, W, 3) uint8, RGB, of any size, and the line above it."""

    picture: np.ndarray
    caption: str


def contact_sheet(cells: Sequence[Cell], cell_size: tuple[int, int] = CELL_SIZE) -> np.ndarray:
    """Lay pictures out in rows of four, each shrunk or enlarged into its cell.

    Args:
        cells: At least one.
        cell_size: Width and height of a picture in pixels.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    framed = [_frame(cell, cell_size) for cell in cells]
    framed += [np.full_like(framed[0], BACKGROUND)] * (-len(framed) % COLUMNS)
    rows = [framed[i : i + COLUMNS] for i in range(0, len(framed), COLUMNS)]
    return grid(rows, [""] * COLUMNS)


def fit_scale(height: int, width: int, cell_size: tuple[int, int] = CELL_SIZE) -> float:
    """Factor that fits an image into a cell; draw boxes and text after scaling, to be legible."""
    return min(cell_size[0] / width, cell_size[1] / height)


def _frame(cell: Cell, cell_size: tuple[int, int]) -> np.ndarray:
    width, height = cell_size
    picture = Image.fromarray(np.ascontiguousarray(cell.picture))
    scale = fit_scale(picture.height, picture.width, cell_size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    frame = Image.new("RGB", (width, height + CAPTION_HEIGHT), (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(frame)
    letters = load_font(_CAPTION)
    text = shorten(cell.caption, letters, width)
    draw.text((0, 1), text, fill=(0, 0, 0), font=letters)
    frame.paste(picture, ((width - size[0]) // 2, CAPTION_HEIGHT + (height - size[1]) // 2))
    return np.asarray(frame)
