"""Colours of classes, the same in figures, predictions, tests and check sheets.

A data set's own palette comes first; these rules are for data without one, and for boxes.
"""

import colorsys
from collections.abc import Sequence

Colour = tuple[int, int, int]  # RGB, 0-255

# Okabe and Ito's colours, which the colour-blind can tell apart, without black.
OKABE_ITO: dict[str, Colour] = dict(
    orange=(230, 159, 0),
    sky=(86, 180, 233),
    green=(0, 158, 115),
    yellow=(240, 228, 66),
    blue=(0, 114, 178),
    vermilion=(213, 94, 0),
    purple=(204, 121, 167),
)
DISTINCT = tuple(OKABE_ITO.values())
_GOLDEN_RATIO = 0.618034


def class_palette(num_classes: int) -> list[Colour]:
    """A colour for each class of data that has no palette of its own.

    Few classes get colours that the colour-blind can tell apart; of more, neighbours are far apart
    on the colour circle.
    """
    if num_classes <= len(DISTINCT):
        return list(DISTINCT[:num_classes])
    colours = [
        colorsys.hsv_to_rgb(i * _GOLDEN_RATIO % 1, (0.9, 0.55)[i % 2], (1.0, 0.75)[i // 2 % 2])
        for i in range(num_classes)
    ]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours]


def object_colours(palette: Sequence[Colour]) -> list[Colour]:
    """Colours for the boxes of some classes: of few, those that everybody can tell apart.

    Args:
        palette: Those of the data set.
    """
    few = len(palette) <= len(DISTINCT)
    return class_palette(len(palette)) if few else list(palette)
