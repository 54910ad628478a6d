"""How figures look: letters, widths and colours that stay legible in a paper's column.

Sizes are those of the printed page, so a figure is put into a paper without scaling it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.colors import Colormap

from milan_mm.palette import OKABE_ITO

PAGE_WIDTH, COLUMN_WIDTH = 6.9, 3.3  # inches, of a paper with two columns
# points; letters under 6 cannot be read in print
TITLE_SIZE, LABEL_SIZE, CAPTION_SIZE = 7.5, 6.5, 6.5
INK, FAINT_INK = "#222222", "#555555"
DPI = 300
FONT = "DejaVu Sans"  # comes with matplotlib

_HEX = {name: "#{:02X}{:02X}{:02X}".format(*rgb) for name, rgb in OKABE_ITO.items()}
_FIRST = ("blue", "vermilion", "green", "purple", "sky", "orange")
PALETTE = (*map(_HEX.__getitem__, _FIRST), "#000000", _HEX["yellow"])  # pale on paper, so last
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # a second key, where the palette starts over
LOOKS = len(PALETTE) * len(MARKERS)
RIGHT, WRONG = PALETTE[0], PALETTE[1]  # blue and vermilion differ for everybody
MAPS = {"attention": "viridis", "probability": "viridis", "loss": "cividis", "depth": "viridis"}
NO_VALUE = "#D9D9D9"  # where a map has none

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": LABEL_SIZE,
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollar signs is not a formula
    "axes.edgecolor": FAINT_INK,
    "axes.linewidth": 0.5,
    "axes.labelsize": LABEL_SIZE,
    "xtick.labelsize": LABEL_SIZE,
    "ytick.labelsize": LABEL_SIZE,
    "xtick.major.width": 0.5,
    "xtick.major.size": 2,
    "xtick.major.pad": 1.5,
    "svg.hashsalt": "milan_mm",  # the same figure is the same file
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw in the style of this file, and leave matplotlib's settings as they were."""
    with rc_context(_RC):
        yield


def colour_map(quantity: str) -> Colormap:
    """The map of a quantity, a key of `MAPS`; grey where there is no value (NaN)."""
    return colormaps[MAPS[quantity]].with_extremes(bad=NO_VALUE)


def class_look(number: int) -> tuple[str, str]:
    """Colour and marker of a class: no two of the first `LOOKS` share both."""
    return PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]
