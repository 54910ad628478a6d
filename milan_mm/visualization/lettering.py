"""Letters on pictures: a font, their size, and pictures that are large enough for them."""

from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import ImageFont

LEGIBLE = 640  # pixels along the long side of a picture, below which it is enlarged
MIN_TEXT = 14  # pixels
PAPER, INK = (255, 255, 255), (20, 20, 20)


def enlarged(image: np.ndarray, side: int = LEGIBLE) -> np.ndarray:
    """A copy whose text will be legible: a small picture grows by a whole number.

    Args:
        side: About what the long side should have, in pixels.
    """
    zoom = max(1, round(side / max(image.shape[:2])))
    if zoom == 1:
        return np.array(image)
    return cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)


def text_size(canvas: np.ndarray) -> int:
    """Height of text in pixels, for a picture of this size."""
    return int(np.clip(min(canvas.shape[:2]) / 28, MIN_TEXT, 64))


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: Latin, Greek and Cyrillic letters."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def shorten(text: str, letters: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut to a width in pixels with an ellipsis."""
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def stack(picture: np.ndarray, below: np.ndarray) -> np.ndarray:
    """One above the other, on white."""
    height, width = picture.shape[:2]
    whole = np.full((height + below.shape[0], max(width, below.shape[1]), 3), 255, np.uint8)
    left = (whole.shape[1] - width) // 2
    whole[:height, left : left + width] = picture
    whole[height:, : below.shape[1]] = below
    return whole
