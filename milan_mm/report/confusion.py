"""A confusion matrix on a page: shaded cells for a few classes, a picture and a list for many."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from PIL import Image

from milan_mm.evaluation.confusion import FILE
from milan_mm.report.page import EMPTY, join, paragraph, picture, table
from milan_mm.report.stranger import is_inside

_AS_TABLE = 20  # classes
_LISTED = 15
_SIDE = 600  # pixels


@dataclass(frozen=True)
class Confusion:
    """See `milan_mm.evaluation.confusion.ConfusionMatrix`.

    Attributes:
        matrix: (N, N) int64, rows are true classes, columns predicted ones.
    """

    classes: Sequence[str]
    unit: str
    matrix: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """(N, N) float64 in 0-1, each row divided by its sum; NaN for classes that never occur."""
        sums = self.matrix.sum(axis=1, keepdims=True)
        return np.divide(self.matrix, sums, out=np.full(self.matrix.shape, np.nan), where=sums > 0)


def newest_confusion(folder: Path) -> Path | None:
    """The newest matrix in a folder and those below."""
    found = (path for path in folder.rglob(FILE) if path.is_file() and is_inside(path, folder))
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def confusion_body(path: Path | None, origin: str = "") -> Markup:
    """A matrix, and whose it is; nothing without one."""
    found = read_confusion(path) if path else None
    if found is None or not found.matrix.sum():
        return EMPTY
    small = len(found.classes) <= _AS_TABLE
    total = f"{found.matrix.sum():,} {found.unit}"
    right = np.trace(found.matrix) / found.matrix.sum()
    return join(
        [
            paragraph(origin, note=True) if origin else EMPTY,
            paragraph(
                f"Rows are true classes, columns what the model said, in % of the true class. "
                f"{right:.1%} of {total} are right.",
                note=True,
            ),
            _as_table(found) if small else _as_picture(found),
            EMPTY if small else _most_confused(found),
        ]
    )


def read_confusion(path: Path) -> Confusion | None:
    """Read a file of `ConfusionMatrix`; None for files of another kind."""
    try:
        content = json.loads(path.read_text("utf-8"))
        classes = [str(name) for name in content["classes"]]
        matrix = np.array(content["matrix"], np.int64)
        unit = str(content["unit"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    fits = matrix.shape == (len(classes), len(classes)) and (matrix >= 0).all()
    return Confusion(classes, unit, matrix) if fits else None


def _as_table(found: Confusion) -> Markup:
    head = [Markup("<th>{}</th>").format(name) for name in found.classes]
    lines = []
    for name, shares, counts in zip(found.classes, found.shares, found.matrix, strict=True):
        cells = []
        for other, share, amount in zip(found.classes, shares, counts, strict=True):
            if np.isnan(share):
                cells.append(Markup("<td></td>"))
                continue
            said = f"{name} taken for {other}: {amount:,} {found.unit}"
            cells.append(
                Markup('<td style="background: {}; color: {}" title="{}">{}</td>').format(
                    _colour(share), _ink(share), said, f"{share * 100:.0f}"
                )
            )
        lines.append(Markup("<tr><th>{}</th>{}</tr>").format(name, Markup("").join(cells)))
    return join(
        [
            '<div class="scroll"><table class="matrix"><thead><tr><td></td>',
            *head,
            "</tr></thead><tbody>",
            *lines,
            "</tbody></table></div>",
        ]
    )


def _as_picture(found: Confusion) -> Markup:
    colours = colormaps["viridis"](np.nan_to_num(found.shares) ** 0.5)[..., :3]
    factor = max(1, round(_SIDE / len(found.classes)))
    pixels = (colours * 255).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return picture(
        buffer.getvalue(),
        "confusion matrix",
        f"{len(found.classes)} classes in the order of the data set; brighter is a larger share "
        "(square root).",
        pixels=True,
    )


def _most_confused(found: Confusion) -> Markup:
    shares = np.nan_to_num(found.shares)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None)[:_LISTED]
    places = [divmod(int(place), len(found.classes)) for place in order]
    rows = [
        [
            found.classes[truth],
            found.classes[guess],
            f"{shares[truth, guess] * 100:.1f}",
            f"{found.matrix[truth, guess]:,}",
        ]
        for truth, guess in places
        if shares[truth, guess] > 0
    ]
    head = ["true class", "taken for", "% of the class", found.unit]
    return table(head, rows, caption="Most often confused")


def _colour(share: float) -> str:
    """Over the page's own background, so that an empty cell looks empty in dark mode, too."""
    return f"rgba(0, 114, 178, {share:.3f})"


def _ink(share: float) -> str:
    return "#fff" if share > 0.5 else "inherit"
