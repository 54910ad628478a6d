"""Colours of classes that have none of their own."""

import colorsys

_GOLDEN_RATIO = 0.618034


def class_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """A colour for each class (RGB, 0-255); neighbours are far apart on the colour circle."""
    colours = [
        colorsys.hsv_to_rgb(i * _GOLDEN_RATIO % 1, (0.9, 0.55)[i % 2], (1.0, 0.75)[i // 2 % 2])
        for i in range(num_classes)
    ]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours]
