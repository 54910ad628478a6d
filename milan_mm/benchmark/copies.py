"""Smaller copies of the images of a benchmark, and how far their crops are from the originals'."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from milan_mm.data.loading import decode
from milan_mm.data.shrinking import Settings, copy_file

_BICUBIC, _BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def make_copies(paths: Sequence[Path], source: Path, target: Path, settings: Settings) -> str:
    """Copy some files of a folder as tools/shrink_images.py copies all.

    Args:
        paths: Inside `source`.

    Returns:
        A sentence with their bytes.
    """
    copies = [copy_file(str(p.relative_to(source)), source, target, settings) for p in paths]
    before, after = (sum(getattr(c, name) for c in copies) for name in ("before", "after"))
    return (
        f"copies with a shorter side of {settings.short_side} and quality {settings.quality} have "
        f"{after / before:.0%} of the bytes"
    )


def difference(
    paths: Sequence[Path], source: Path, target: Path, scale: int, area: tuple[float, float]
) -> str:
    """Crops of the copies beside equal crops of the originals.

    Both are resized by Pillow, so that nothing but the copies makes a difference.

    Args:
        paths: Inside `source`, with copies of the same names in `target`.
        scale: Side of the resized crops in pixels.
        area: Share of the image that a crop has, smallest and largest.

    Returns:
        A sentence with the mean over all pixels, beside that of another filter as a yardstick.
    """
    rng = np.random.default_rng(0)
    copied, filtered = [], []
    for path in paths:
        box = _draw(rng, area)
        original = _pixels(path, box, scale)
        copied.append(_mean(original, _pixels(target / path.relative_to(source), box, scale)))
        filtered.append(_mean(original, _pixels(path, box, scale, _BILINEAR)))
    return (
        f"crops of the copies differ from crops of the originals by {np.mean(copied):.2f} of 255 "
        f"in the mean (bilinear from bicubic resizing by {np.mean(filtered):.2f})"
    )


def _draw(rng: np.random.Generator, area: tuple[float, float]) -> np.ndarray:
    """Left, top, right and bottom of a square part, as shares of width and height."""
    side = np.sqrt(rng.uniform(*area))
    corner = rng.uniform(0, 1 - side, 2)
    return np.concatenate([corner, corner + side])


def _pixels(
    path: Path, box: np.ndarray, scale: int, filter: Image.Resampling = _BICUBIC
) -> np.ndarray:
    image = Image.fromarray(decode(path.read_bytes()))
    edges = box * (*image.size, *image.size)
    return np.array(image.resize((scale, scale), filter, tuple(edges)), np.int16)


def _mean(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean())
