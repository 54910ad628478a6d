"""The pictures that a figure shows: read, cut to a square, and made an encoder's input."""

import sys
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from milan_mm.datasets.decoding import decode, reason_of
from milan_mm.datasets.folders import is_image, list_images, spread
from milan_mm.errors import UserError
from milan_mm.files import read_regular
from milan_mm.inference.pictures import find_pictures
from milan_mm.text import count
from milan_mm.weights.statistics import byte_stats

MAX_IMAGES = 8  # of a figure that has a row for each


class Photo(NamedTuple):
    """A picture (H, W, 3) uint8, RGB, and its file."""

    path: Path
    pixels: np.ndarray


def read_photos(sources: Sequence[str | Path], limit: int = MAX_IMAGES) -> list[Photo]:
    """Read pictures; unreadable ones are left out, and named on stderr.

    Args:
        sources: Files, folders and patterns such as 'photos/*.jpg'.
        limit: Of more pictures that many are taken, evenly spaced.

    Raises:
        MissingFileError, UserError: When there is none that can be read.
    """
    pictures, unread = find_pictures([str(source) for source in sources])
    paths = [Path(picture.path) for picture in pictures]
    if len(paths) > limit:
        print(
            f"{limit} of {len(paths)} images, evenly spaced: --max-images takes more",
            file=sys.stderr,
        )
        paths = spread(paths, limit)
    photos = []
    failed = [f"'{name}' (of a type that is not read, or not a file)" for name in unread]
    for path in paths:
        try:
            photos.append(Photo(path, decode(read_regular(path))[..., ::-1].copy()))  # BGR to RGB
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            failed.append(f"'{path}' ({reason_of(error)})")
    if not photos:
        raise UserError(f"none of {count(len(failed), 'image')} can be read, first {failed[0]}")
    if failed:
        print(
            f"left out {len(failed)} of {len(failed) + len(photos)} images that cannot be read, "
            f"first {failed[0]}",
            file=sys.stderr,
        )
    return photos


def first_image(words: Sequence[str]) -> int:
    """Where images begin in a list of weights files and images.

    An image is what has the ending of one, a pattern, or a folder that has images and nothing that
    a folder of weights has.
    """
    for i, word in enumerate(words):
        path = Path(word)
        if is_image(word) or (has_magic(word) and not path.exists()):
            return i
        if path.is_dir() and not any(path.glob("*.json")) and list_images(path):
            return i
    return len(words)


def square(photo: Photo, size: int) -> np.ndarray:
    """The middle of a picture: its short side is resized to `size` pixels, the long one cut.

    Returns:
        (size, size, 3) uint8, RGB.
    """
    height, width = photo.pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    image = Image.fromarray(photo.pixels).resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    return np.asarray(image)


def as_input(images: np.ndarray, stats: str, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float, normalised.

    Args:
        stats: See `stats_text`.
    """
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in byte_stats(stats))
    return (torch.tensor(images, device=device).permute(0, 3, 1, 2).float() - mean) / std
