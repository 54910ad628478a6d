"""All photographs of a split, decoded once and kept in memory; and random views of them."""

from pathlib import Path

import mmcv
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from milan_mm.datasets.decoding import decode, read_content, reason_of
from milan_mm.datasets.folders import list_images
from milan_mm.errors import UserError

_GREY = torch.tensor([0.2989, 0.587, 0.114])  # of red, green and blue
_TURN = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / 3**0.5


def read_split(folder: Path, classes: dict[str, str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Read FOLDER/CLASS/*; other sizes are resized by their short side and cut at the centre.

    Args:
        classes: By folder; their order numbers them.
        size: Side of the images in pixels.

    Returns:
        (N, size, size, 3) uint8 RGB, and (N,) int64 numbers of classes.

    Raises:
        UserError: Names a file that cannot be read.
    """
    found = [list_images(folder / name) for name in classes]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in found])
    parts = zip(classes, found, strict=True)
    paths = [folder / name / image for name, part in parts for image in part]
    images = np.empty((len(paths), size, size, 3), np.uint8)
    bar = tqdm(paths, desc=f"reading {folder.parent.name}/{folder.name}", unit=" images")
    for image, path in zip(images, bar, strict=True):
        try:
            pixels = decode(read_content(str(path)))
        except Exception as error:  # a damaged file leads decoders to any kind of error
            raise UserError(
                f"image '{path}' cannot be read: {reason_of(error)}; replace or remove it"
            ) from None
        image[:] = _square(pixels, size)[:, :, ::-1]  # OpenCV's order is BGR
    return images, labels


def _square(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    share = size / min(height, width)
    new = (max(size, round(width * share)), max(size, round(height * share)))
    pixels = mmcv.imresize(pixels, new, interpolation="area" if share < 1 else "bicubic")
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


def random_views(pixels: Tensor, least_area: float, rng: np.random.Generator) -> Tensor:
    """Square crops, mirrored half of the time and resized to the images' own size.

    Args:
        pixels: (B, 3, H, W) float.
        least_area: Of a crop, as a share of the image's.

    Returns:
        (B, 3, H, W) float.
    """
    side = rng.uniform(least_area, 1.0, len(pixels)) ** 0.5
    mirror = rng.choice((-1.0, 1.0), len(pixels))
    move = rng.uniform(-1.0, 1.0, (2, len(pixels))) * (1 - side)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = (torch.from_numpy(v) for v in (side * mirror, side))
    theta[:, :, 2] = torch.from_numpy(move.T)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def random_colours(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue changed at random, a fifth made grey.

    What torchvision's `ColorJitter(0.4, 0.4, 0.4, 0.1)` and `RandomGrayscale(0.2)` do, with factors
    of its own for each image in one product of matrices; theirs is one call for each image, which
    takes longer than the training. Values are cut to 0-1 once, at the end.

    Args:
        pixels: (B, 3, H, W) float, 0-1.

    Returns:
        (B, 3, H, W) float, 0-1.
    """
    count = len(pixels)
    bright, contrast, colour = torch.from_numpy(rng.uniform(0.6, 1.4, (3, count, 1, 1))).float()
    colour[torch.from_numpy(rng.random(count) < 0.2)] = 0
    angle = torch.from_numpy(rng.uniform(-0.2, 0.2, (count, 1, 1)) * np.pi).float()
    return change_colours(pixels, bright, contrast, colour, angle)


def change_colours(
    pixels: Tensor, bright: Tensor, contrast: Tensor, colour: Tensor, angle: Tensor
) -> Tensor:
    """Change the colours of each image.

    Args:
        pixels: (B, 3, H, W) float, 0-1.
        bright, contrast, colour: (B, 1, 1) factors; a colour of 0 gives grey.
        angle: (B, 1, 1), by which hues turn about the axis of greys, in radians.
    """
    identity, grey = torch.eye(3), _GREY.expand(3, 3)
    turned = identity + angle.sin() * _TURN + (1 - angle.cos()) * (_TURN @ _TURN)
    matrices = bright * contrast * (colour * identity + (1 - colour) * grey) @ turned  # (B, 3, 3)
    changed = torch.einsum("bij,bjhw->bihw", matrices, pixels)
    mean = bright * (pixels.mean((2, 3)) @ _GREY)[:, None, None]
    return (changed + ((1 - contrast) * mean)[..., None]).clamp(0, 1)
