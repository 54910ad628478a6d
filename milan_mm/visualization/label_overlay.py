"""Label maps over photos, so that both are seen: colours, edges, and a legend."""

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
ALPHA = 0.5
IGNORED = 255
_ROW, _TEXT = 20, 13  # pixels: of a line of the legend, of its letters
_EDGE = (255, 255, 255)


def overlay_labels(
    image: np.ndarray, labels: np.ndarray, palette: Sequence[Colour], plain: Collection[int] = ()
) -> np.ndarray:
    """Blend the colours of the classes into a photo; edges between classes are white.

    Args:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) int; `IGNORED` is darkened, since nothing is learnt from it.
        palette: By label.
        plain: Classes whose photo stays as it is, such as a background that is nearly everywhere.
    """
    table = np.zeros((256, 3), np.float32)
    table[: len(palette)] = np.reshape(palette, (-1, 3))
    alpha = np.full(256, ALPHA, np.float32)
    alpha[list(plain)] = 0
    weights = alpha[labels][..., None]
    blend = (1 - weights) * image + weights * table[labels]
    blend[_edges(labels)] = _EDGE
    return blend.round().astype(np.uint8)


def label_legend(
    names: Sequence[str],
    palette: Sequence[Colour],
    order: Sequence[int],
    plain: Collection[int],
    size: tuple[int, int],
) -> np.ndarray:
    """A list of classes with their colours, in two columns where one is too long.

    Args:
        names, palette: By label. order: The labels to list, the most important first.
        plain: As in `overlay_labels`; they are framed, not filled.
        size: Width and height in pixels; what does not fit is counted in the last line.
    """
    width, height = size
    rows = height // _ROW
    columns = 1 if len(order) + 1 <= rows else 2
    room_for = rows * columns - 1
    shown = list(order if len(order) <= room_for else order[: room_for - 1])
    lines: list[tuple[str, Colour | None]] = [
        (f"{label} {names[label]}", None if label in plain else palette[label]) for label in shown
    ]
    lines.append(("not labelled", (0, 0, 0)))
    if (more := len(order) - len(shown)) > 0:
        lines.append((f"and {more} more", (255, 255, 255)))
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    room = width // columns
    for place, (text, colour) in enumerate(lines):
        x, y = place // rows * room, place % rows * _ROW
        if not text.startswith("and "):
            draw.rectangle((x + 2, y + 3, x + 14, y + 15), fill=colour, outline=(90, 90, 90))
        text += "" if colour else " (not painted)"
        while text and _font().getlength(text) > room - 24:
            text = text[:-1]
        draw.text((x + 20, y + 1), text, fill=(0, 0, 0), font=_font())
    return np.asarray(sheet)


def _edges(labels: np.ndarray) -> np.ndarray:
    """Where the right or the lower neighbour has another label: (H, W) bool."""
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along."""
    path = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(path, _TEXT)
