"""A random crop of an image file: drawn first, then only what it needs is decoded."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from milan_mm.datasets.decoding import check_pixels, decode, is_complete_jpeg, read_content
from milan_mm.datasets.jpeg import JpegHeader, cut_rows, read_header
from milan_mm.datasets.loading import LoadImage
from milan_mm.errors import UserError
from milan_mm.registry import TRANSFORMS

try:
    import simplejpeg  # optional: stops at the last row that a crop needs
except ImportError:
    simplejpeg = None

# JPEG decoders give 1/2, 1/4 or 1/8 of the size for less work.
_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# What must be left for the resizing, whose filter is better, in sizes of the result. At 1.5 the
# pixels differ by half as much as bilinear ones do from bicubic ones.
MIN_LEFT = 1.5


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(LoadImage):
    """`LoadImage`, `RandomResizedCrop` (mmpretrain's, bicubic as Pillow's) and `RandomFlip` in one.

    The box is drawn from the size in the file's header. Equal random numbers give the boxes and
    flips of the three transforms; pixels differ from theirs by rounding. A crop much larger than
    the result is decoded at 1/2, 1/4 or 1/8 of its size and differs a little more, see
    docs/performance.md. Damaged files are treated as by `LoadImage`.

    Args:
        scale: Size of the result, (height, width), or the side of a square.
        crop_ratio_range: Share of the image's area that a crop has, smallest and largest.
        flip_prob: Share of the images that are mirrored, left to right.
        aspect_ratio_range: Width over height of a crop, smallest and largest.
        max_attempts: Draws before the largest centre crop is taken.
        backend_args: Of mmengine's file backend; None reads local files.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        flip_prob: float = 0.0,
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        max_attempts: int = 10,
        backend_args: dict | None = None,
    ) -> None:
        # here: mmpretrain's data sets take a while to import, and detection needs none of them
        from mmpretrain.datasets import RandomResizedCrop

        super().__init__(backend_args=backend_args)
        self.cropper = RandomResizedCrop(scale, crop_ratio_range, aspect_ratio_range, max_attempts)
        self.flip_prob = flip_prob

    def read(self, results: dict) -> dict:
        """Add `img` (*scale, 3) uint8 BGR, `img_shape`, `ori_shape` (H, W) of the file, `flip`."""
        content = read_content(results["img_path"], self.backend_args)
        header = read_header(content) if is_complete_jpeg(content) else None
        if header is None or header.num_channels == 4:
            img, reduction = decode(content), 1
            size = img.shape[:2]
            box = self._draw(size)
        else:
            size = header.shown_size
            check_pixels(*size)
            box = self._draw(size)
            reduction = largest_reduction(box[2:], self.cropper.scale)
            img = decode_part(content, header, box[0] + box[2], reduction)
            if img.shape[1] != math.ceil(size[1] / reduction):
                raise UserError(f"its header says {size}, its pixels {img.shape[:2]}")
        img = resize(img, [edge / reduction for edge in box], self.cropper.scale)
        # the number that mmcv's transform draws, without its many steps in Python
        flip = self.flip_prob > 0 and np.random.random() < self.flip_prob  # noqa: NPY002
        results.update(
            img=channels_first(cv2.flip(img, 1) if flip else img),
            img_shape=img.shape[:2],
            ori_shape=size,
            flip=flip,
            flip_direction="horizontal" if flip else None,
        )
        return results

    def _draw(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop of an image of this (height, width)."""
        # mmpretrain asks for an image, of which it looks at the shape only: none is decoded yet
        return self.cropper.rand_crop_params(SimpleNamespace(shape=size))


def largest_reduction(crop: Sequence[int], target: Sequence[int]) -> int:
    """1, 2, 4 or 8: how much smaller a crop may be decoded that is resized to the target.

    Args:
        crop, target: (height, width) in pixels.
    """
    left = min(side / wanted for side, wanted in zip(crop, target, strict=True))
    return max((n for n in _REDUCED if left >= n * MIN_LEFT), default=1)


def decode_part(content: bytes, header: JpegHeader, bottom: int, reduction: int) -> np.ndarray:
    """What a crop needs of a complete JPEG file; columns are all decoded, later rows may be left.

    Args:
        content, header: Of the file.
        bottom: Rows that are needed, of the image as shown and in its full size.
        reduction: 1, 2, 4 or 8; the result has 1/reduction of the size, rounded up.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    if reduction > 1:
        return decode(content, _REDUCED[reduction])
    if simplejpeg is None or not header.stops_early:
        return decode(content)
    # the same decoder as OpenCV's, libjpeg-turbo; what comes after the last row is skipped
    return simplejpeg.decode_jpeg(cut_rows(content, header, bottom), "BGR", strict=False)


def resize(img: np.ndarray, box: Sequence[float], target: Sequence[int]) -> np.ndarray:
    """A part of an image at another size, bicubic with antialiasing, as Pillow does it.

    Args:
        img: (H, W, 3) uint8.
        box: Top, left, height and width of the part, in pixels; fractions are allowed.
        target: (height, width) of the result.

    Returns:
        (*target, 3) uint8.
    """
    top, left, height, width = box
    y, x = math.floor(top), math.floor(left)
    part = img[y : math.ceil(top + height), x : math.ceil(left + width)]
    if part.shape[:2] == (height, width):
        # torch's kernel is vectorised; Pillow's differs by rounding
        part = part if min(part.strides) > 0 else part.copy()  # for torch; Pillow's BGR is a view
        pixels = torch.from_numpy(part)[None].permute(0, 3, 1, 2)
        resized = F.interpolate(pixels, size=tuple(target), mode="bicubic", antialias=True)
        return resized[0].permute(1, 2, 0).numpy()  # H, W, 3
    edges = (left - x, top - y, left - x + width, top - y + height)
    size = (target[1], target[0])
    return np.array(Image.fromarray(part).resize(size, Image.Resampling.BICUBIC, edges))


def channels_first(img: np.ndarray) -> np.ndarray:
    """The same (H, W, 3) image, stored channel by channel, so that packing need not copy it."""
    planes = np.empty((3, *img.shape[:2]), np.uint8)
    cv2.split(img, list(planes))
    return planes.transpose(1, 2, 0)
