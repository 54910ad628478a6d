"""Small picture tools shared by this folder. A picture is (H, W, 3) uint8, RGB."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

BACKGROUND = 255
GAP = 8  # pixels between the cells of a grid
CAPTION_HEIGHT = 18  # pixels


def enlarge(picture: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel `factor` times, so that single pixels stay visible."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def grid(rows: list[list[np.ndarray]], titles: list[str]) -> np.ndarray:
    """Lay equally sized pictures out in rows, one title above each column."""
    height, width = rows[0][0].shape[:2]
    sheet = Image.new(
        "RGB",
        (
            len(titles) * (width + GAP) - GAP,
            CAPTION_HEIGHT + len(rows) * (height + GAP) - GAP,
        ),
        (BACKGROUND,) * 3,
    )
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * (width + GAP), 2), title, fill=(0, 0, 0))
        for row, pictures in enumerate(rows):
            position = (column * (width + GAP), CAPTION_HEIGHT + row * (height + GAP))
            sheet.paste(Image.fromarray(pictures[column]), position)
    return np.asarray(sheet)


def png_bytes(picture: np.ndarray) -> bytes:
    """Encode a picture as PNG."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
