"""Smaller copies of the images of a benchmark, and how far their crops are from the originals'."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from milan_mm.datasets.loading import decode
from milan_mm.upkeep.shrink import ShrinkSettings, copy_file

_BICUBIC, _BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def make_copies(names: Sequence[str], target: Path, settings: ShrinkSettings) -> float:
    """Copy some files of a folder as tools/shrink_images.py copies all.

    Returns:
        The bytes of the copies as a share of those of the originals.
    """
    copies = [copy_file(name, target, settings) for name in names]
    return sum(copy.after for copy in copies) / sum(copy.before for copy in copies)


def crop_differences(
    names: Sequence[str], source: Path, target: Path, scale: int, area: tuple[float, float]
) -> tuple[float, float]:
    """Crops of the copies beside equal crops of the originals, which have the image's proportions.

    Both are resized by Pillow, so that nothing but the copies makes a difference.

    Args:
        names: Inside both folders.
        scale: Side of the resized crops in pixels.
        area: Share of the image that a crop has, smallest and largest.

    Returns:
        Mean absolute differences of the pixels, of 255: copies from originals, and as a yardstick
        originals resized by a bilinear filter from a bicubic one.
    """
    rng = np.random.default_rng(0)
    differences = []
    for name in names:
        box = _draw(rng, area)
        original, copy = (
            Image.fromarray(decode((folder / name).read_bytes())) for folder in (source, target)
        )
        wanted = _pixels(original, box, scale, _BICUBIC)
        others = _pixels(copy, box, scale, _BICUBIC), _pixels(original, box, scale, _BILINEAR)
        differences.append([np.abs(wanted - other).mean() for other in others])
    from_copies, from_filter = np.mean(differences, axis=0)
    return float(from_copies), float(from_filter)


def _draw(rng: np.random.Generator, area: tuple[float, float]) -> np.ndarray:
    """Left, top, right and bottom of a part, as shares of width and height."""
    side = np.sqrt(rng.uniform(*area))
    corner = rng.uniform(0, 1 - side, 2)
    return np.concatenate([corner, corner + side])


def _pixels(
    image: Image.Image, box: np.ndarray, scale: int, resample: Image.Resampling
) -> np.ndarray:
    edges = box * (*image.size, *image.size)
    return np.array(image.resize((scale, scale), resample, tuple(edges)), np.int16)
