"""Predictions drawn on their pictures: boxes and masks, likeliest labels.

The frameworks' own visualizers do not do here: mmseg's darkens pixels without a label and has no
legend, mmdet's jitters its colours at random and covers small objects with its text, and neither
enlarges a small picture. A picture is (H, W, 3) uint8, RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from milan_mm.palette import OKABE_ITO, Colour
from milan_mm.visualization.lettering import (
    INK,
    LEGIBLE,
    MIN_TEXT,
    PAPER,
    enlarged,
    load_font,
    shorten,
    stack,
    text_size,
)

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

CROWD = 10  # objects, above which a picture is larger and its text smaller
MASK_ALPHA = 0.4
BAR, FAINT = OKABE_ITO["blue"], (225, 228, 232)


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str] | None,
    colours: Sequence[Colour],
    scores: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    line: float = 1 / 300,
    enlarge: bool = True,
) -> np.ndarray:
    """Draw boxes, masks, class names and scores, the first object on top.

    Args:
        boxes: (N, 4) left, top, right, bottom in pixels of the image. labels: (N,) int.
        names, colours: By label; without names there is no text.
        scores: (N,) in 0-1; None of a truth. masks: (N, H, W) bool.
        line: Width of lines, as a share of the short side.
        enlarge: Whether a small picture grows.

    Returns:
        The picture, enlarged by a whole number if it is small.
    """
    is_crowd = names is not None and enlarge and len(boxes) > CROWD
    limit = 2 * LEGIBLE if is_crowd else LEGIBLE
    canvas = enlarged(image, limit) if enlarge else np.array(image)
    zoom = canvas.shape[0] / image.shape[0]
    size = text_size(canvas)
    if is_crowd:
        size = max(MIN_TEXT, round(size * (CROWD / len(boxes)) ** 0.5))
    thick = max(2, round(min(canvas.shape[:2]) * line))
    order = range(len(boxes))
    for i in reversed(order):
        colour = colours[int(labels[i])]
        if masks is not None:
            canvas = _fill(canvas, masks[i], colour, thick)
        left, top, right, bottom = (round(float(v) * zoom) for v in boxes[i])
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, thick, cv2.LINE_AA)
    if names is None:
        return canvas
    sheet = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(sheet), load_font(size)
    taken: list[Rectangle] = []
    for i in order:
        text = names[int(labels[i])]
        text = text if scores is None else f"{text} {scores[i]:.2f}"
        left, top, right, bottom = (float(v) * zoom for v in boxes[i])
        place = _place(draw, font, text, (left, top, right, bottom), sheet.size, taken)
        taken.append(place)
        colour = colours[int(labels[i])]
        draw.rectangle(place, fill=colour)
        draw.text((place[0] + _pad(font), place[1]), text, fill=_ink_on(colour), font=font)
    return np.asarray(sheet)


def draw_ranking(image: np.ndarray, ranking: Sequence[tuple[str, float]]) -> np.ndarray:
    """Put the likeliest labels of an image below it, each with a bar.

    Args:
        ranking: Names and probabilities, the likeliest first.
    """
    canvas = enlarged(image)
    width, size = max(canvas.shape[1], LEGIBLE // 2), text_size(canvas)
    font, row = load_font(size), round(1.6 * size)
    sheet = Image.new("RGB", (width, row * len(ranking) + size), PAPER)
    draw = ImageDraw.Draw(sheet)
    number, start = round(draw.textlength("100.0 %", font=font)), round(width * 0.55)
    for i, (name, share) in enumerate(ranking):
        top = size // 2 + i * row
        text = shorten(name, font, start - 2 * size)
        draw.text((size // 2, top), text, fill=INK, font=font)
        length = width - start - number - size
        middle = top + row / 2 - size / 8
        bar = (start, middle - size / 3, start + length, middle + size / 3)
        draw.rectangle(bar, fill=FAINT)
        if round(share * length):
            draw.rectangle((*bar[:2], start + round(share * length), bar[3]), fill=BAR)
        right = width - size // 2
        draw.text((right, top), f"{100 * share:.1f} %", fill=INK, font=font, anchor="ra")
    return stack(canvas, np.asarray(sheet))


def side_by_side(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Pictures in a row, each below its title; lower ones end in white."""
    size = max(text_size(picture) for picture in pictures)
    gap, head = size, round(1.8 * size)
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, head + max(p.shape[0] for p in pictures)), PAPER)
    draw, left = ImageDraw.Draw(sheet), 0
    for picture, title in zip(pictures, titles, strict=True):
        font = load_font(size)
        text = shorten(title, font, picture.shape[1])
        draw.text((left + size // 3, size // 4), text, fill=INK, font=font)
        sheet.paste(Image.fromarray(picture), (left, head))
        left += picture.shape[1] + gap
    return np.asarray(sheet)


def _fill(canvas: np.ndarray, mask: np.ndarray, colour: Colour, line: int) -> np.ndarray:
    size = (canvas.shape[1], canvas.shape[0])
    smooth = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR)
    whole = smooth > 127
    canvas[whole] = (1 - MASK_ALPHA) * canvas[whole] + MASK_ALPHA * np.array(colour)
    outline, _ = cv2.findContours(
        whole.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    cv2.drawContours(canvas, outline, -1, colour, max(1, line // 2), cv2.LINE_AA)
    return canvas


def _place(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    text: str,
    box: Rectangle,
    size: tuple[int, int],
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Where the text of a box goes: at one of its corners, over as little other text as can be."""
    width, height = draw.textlength(text, font=font) + 2 * _pad(font), round(1.25 * font.size)
    left, top, right, bottom = box
    corners = (
        (left, top - height),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (left, top),
        (left, bottom - height),
        (right, top),
        (left - width, top),
    )
    places = []
    for x, y in corners:
        x = max(0.0, min(x, size[0] - width))
        y = max(0.0, min(y, size[1] - height))
        places.append((x, y, x + width, y + height))
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Pixels that two rectangles share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _pad(font: ImageFont.FreeTypeFont) -> int:
    return max(2, round(font.size / 5))


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER
