"""Writing figures as PNG and SVG; each file says what it shows, and the command that makes it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard
from xml.etree import ElementTree

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from milan_mm.errors import MissingFileError, UserError
from milan_mm.escaping import visible
from milan_mm.files import replacing
from milan_mm.visualization.style import DPI, paper_style

FORMATS = (".png", ".svg")
_KEY = "milan_mm"  # of the PNG text chunk
_TEXTS = ("title", "caption", "command")
_MAX_SIDE = 2**16 - 1  # pixels that matplotlib's Agg draws
_SVG_SOURCE = "{http://purl.org/dc/elements/1.1/}source"


def figure_paths(out: str | Path) -> list[Path]:
    """The files of a figure: the one that is named, or PNG and SVG where no ending is.

    Raises:
        UserError: For another ending.
    """
    out = Path(out)
    if out.is_dir():
        raise UserError(f"--out '{out}' is a folder: name a file in it, e.g. {out / 'figure.png'}")
    if out.suffix in FORMATS:
        return [out]
    if out.suffix.lower() in (".jpg", ".jpeg", ".pdf", ".eps", ".tif", ".tiff", ".webp", ".gif"):
        raise UserError(
            f"--out '{out}': figures are written as {' or '.join(FORMATS)}; leave the ending out "
            "for both"
        )
    return [out.with_name(out.name + ending) for ending in FORMATS]


def save_figure(
    figure: Figure, paths: Sequence[Path], facts: dict[str, Any], dpi: int = DPI
) -> None:
    """Write a figure; each file appears whole.

    Args:
        figure: As `panel_figure` and `scatter_figure` draw it.
        paths: With the endings in `FORMATS`.
        facts: JSON that says how to make the figure again; with `title` and `caption`.
        dpi: Pixels per inch, of PNG and of the pictures inside SVG.

    Raises:
        UserError: When the PNG would have more pixels than matplotlib draws.
    """
    inches = float(max(figure.get_size_inches()))
    if any(path.suffix == ".png" for path in paths) and inches * dpi > _MAX_SIDE:
        raise UserError(
            f"the figure would be {inches * dpi:.0f} pixels long at --dpi {dpi}, the limit is "
            f"{_MAX_SIDE}: pass --dpi {int(_MAX_SIDE / inches)}, take fewer images, or write .svg"
        )
    text = json.dumps(facts)
    title, caption = (visible(facts[name], "\n") for name in ("title", "caption"))
    for path in paths:
        if path.suffix == ".png":
            own: dict = {"Software": "milan_mm", _KEY: text}
        else:  # the keys are those of Dublin Core
            own = dict(Source=text, Date=None)
        metadata = dict(Title=title, Description=caption, **own)
        with paper_style(), replacing(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], dpi=dpi, metadata=metadata)


def picture_of(figure: Figure, dpi: int = DPI) -> np.ndarray:
    """A figure as a picture (H, W, 3) uint8, RGB."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with paper_style():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def read_facts(path: str | Path) -> dict[str, Any]:
    """What `save_figure` wrote into a file.

    Raises:
        MissingFileError, UserError: When there is no such figure.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"figure '{path}' does not exist")
    text = None
    try:
        if path.suffix == ".png":
            with Image.open(path, formats=("PNG",)) as image:
                text = image.info.get(_KEY)
        elif path.suffix == ".svg":
            source = ElementTree.parse(path).find(f".//{_SVG_SOURCE}")
            text = None if source is None else source.text
        facts = json.loads(text) if text else None
    except Exception as error:  # of whatever kind a damaged file leads to
        raise UserError(f"figure '{path}' cannot be read: {error}") from None
    if not _are_facts(facts):
        raise UserError(
            f"'{path}' does not say how it was made: only the {' and '.join(FORMATS)} files of "
            "tools/look.py do"
        )
    return facts


def _are_facts(facts: object) -> TypeGuard[dict[str, Any]]:
    """Whether what is printed of a figure is text; anybody can write such a file."""
    if not isinstance(facts, dict):
        return False
    systems = facts.get("weights", [])
    has_systems = isinstance(systems, list) and all(isinstance(one, dict) for one in systems)
    return has_systems and all(isinstance(facts.get(name, ""), str) for name in _TEXTS)
