"""Label maps over their pictures, so that both are seen, and a legend of the classes."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from milan_mm.palette import Colour
from milan_mm.visualization.lettering import (
    INK,
    LEGIBLE,
    PAPER,
    enlarged,
    load_font,
    shorten,
    stack,
    text_size,
)

UNLABELLED = 255  # of a label map
SHARE = 0.55  # of the colours in the blend


def draw_classes(
    image: np.ndarray, labels: np.ndarray, names: Sequence[str], colours: Sequence[Colour]
) -> np.ndarray:
    """Blend the colours of a label map into its image, above a legend of the classes in it.

    Args:
        labels: (H, W) int; `UNLABELLED` is left as it is.
        names, colours: By label.

    Returns:
        The picture, enlarged by a whole number if it is small, and the legend, the largest class
        first, with its share of the pixels.
    """
    canvas = blend_classes(enlarged(image), labels, colours)
    values, counts = np.unique(labels, return_counts=True)
    shares = sorted(
        ((count / labels.size, int(v)) for v, count in zip(values, counts, strict=True)),
        reverse=True,
    )
    entries = [(names[v], share, colours[v]) for share, v in shares if v < len(names)]
    return stack(canvas, legend(entries, max(canvas.shape[1], LEGIBLE // 2), text_size(canvas)))


def blend_classes(
    image: np.ndarray,
    labels: np.ndarray,
    colours: Sequence[Colour | None],
    share: float = SHARE,
    unlabelled: Colour | None = None,
) -> np.ndarray:
    """Blend the colours of a label map into an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) int, or of another size.
        colours: By label; None leaves the image as it is.
        share: That the colours have in the blend.
        unlabelled: Colour of `UNLABELLED`.
    """
    height, width = image.shape[:2]
    by_label = [*colours, *[None] * (UNLABELLED - len(colours)), unlabelled]
    table = np.array([colour or (0, 0, 0) for colour in by_label], np.uint8)
    painted = np.array([colour is not None for colour in by_label])
    whole = cv2.resize(labels.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST)
    blend = ((1 - share) * image + share * table[whole]).round().astype(np.uint8)
    return np.where(painted[whole][..., None], blend, image)


def legend(
    entries: Sequence[tuple[str, float, Colour | None]],
    width: int,
    size: int,
    most_rows: int | None = None,
) -> np.ndarray:
    """Coloured squares with names, in as many rows as are needed.

    Args:
        entries: Names, shares of the pixels, colours; None is a class that is not painted.
        width: Of the legend, in pixels.
        size: Of its letters, in pixels.
        most_rows: The last of them counts the entries that have no place.
    """
    letters, row = load_font(size), round(1.6 * size)
    placed: list[tuple[int, int, str, Colour | None]] = []  # column in pixels, row
    x, y = size // 2, 0
    for name, share, colour in entries:
        shown = "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
        shown += "" if colour else ", not painted"
        text = shorten(f"{name}  {shown}", letters, width - 3 * size)
        length = round(1.6 * size + letters.getlength(text) + 1.4 * size)
        if x > size // 2 and x + length - size > width:
            x, y = size // 2, y + 1
        placed.append((x, y, text, colour))
        x += length
    if most_rows is not None and y >= most_rows:
        placed = [entry for entry in placed if entry[1] < most_rows - 1]
        y = most_rows - 1
    sheet = Image.new("RGB", (width, size + (y + 1) * row if placed else 1), PAPER)
    draw = ImageDraw.Draw(sheet)
    for x, line, text, colour in placed:
        top = size // 2 + line * row
        square = (x, top + size // 8, x + size, top + size // 8 + size)
        draw.rectangle(square, fill=colour, outline=INK)
        draw.text((x + round(1.6 * size), top), text, fill=INK, font=letters)
    if left_out := len(entries) - len(placed):
        place = (size // 2, size // 2 + y * row)
        draw.text(place, f"and {left_out} more", fill=INK, font=letters)
    return np.asarray(sheet)
