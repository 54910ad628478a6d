"""From a picture to what an encoder takes: size, colour, normalisation."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from milan_mm.errors import MissingFileError, UserError
from milan_mm.files import IMAGE_FORMATS, open_regular
from milan_mm.models.vit_options import pair
from milan_mm.weights.statistics import Three

CROP = 0.875  # share of the short side that the centre crop keeps: 224 of 256 pixels


class Preprocess:
    """A picture to a normalised tensor; works as a `transform` of torchvision's data sets.

    Args:
        mean, std: Of R, G, B in 0-1.
        img_size: (height, width) of the result in pixels.
        patch_size: Its sides must be multiples of this.
    """

    def __init__(self, mean: Three, std: Three, img_size: tuple[int, int], patch_size: int) -> None:
        self.mean, self.std = mean, std
        self.img_size, self.patch_size = img_size, patch_size

    def __call__(
        self, image: Any, size: int | tuple[int, int] | None = None, crop: bool = True
    ) -> Tensor:
        """Prepare one picture.

        Args:
            image: A PIL image, the path of a file, or an array (H, W, 3) uint8 in RGB. Turned
                upright as its EXIF data say; of 16 bits the upper 8 are taken.
            size: (height, width) or side of the result, in pixels; None takes `img_size`.
            crop: Resize the short side to 1/0.875 of `size` and cut out the centre, as tests on
                ImageNet do. False keeps the whole picture: its short side becomes the smaller side
                of `size`, and both are rounded to multiples of the patch size.

        Returns:
            (3, H, W) float32.

        Raises:
            MissingFileError: If there is no such file.
            UserError: If `size` is not a multiple of the patch size, for a file or an object that
                is not a picture, and for pixels whose range nobody states.
        """
        image = _with_8_bits(_upright(image)).convert("RGB")
        height, width = self._size(size)
        image = self._cropped(image, height, width) if crop else self._whole(image, height, width)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255  # (3, H, W)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def __repr__(self) -> str:
        return f"Preprocess(img_size={self.img_size}, mean={self.mean}, std={self.std})"

    def _size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        height, width = self.img_size if size is None else pair(size)
        if any(side < 1 or side % self.patch_size for side in (height, width)):
            raise UserError(
                f"size {height}x{width} is not a multiple of the patch size {self.patch_size}"
            )
        return height, width

    def _cropped(self, image: Image.Image, height: int, width: int) -> Image.Image:
        scale = max(height / image.height, width / image.width) / CROP
        resized = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        image = image.resize(resized, Image.Resampling.BICUBIC)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))

    def _whole(self, image: Image.Image, height: int, width: int) -> Image.Image:
        scale, patch = min(height, width) / min(image.size), self.patch_size
        sides = [max(1, round(side * scale / patch)) * patch for side in image.size]
        return image.resize((sides[0], sides[1]), Image.Resampling.BICUBIC)


def _upright(image: Any) -> Image.Image:
    """A PIL image of all that `Preprocess` takes, read whole and turned."""
    if isinstance(image, str | Path):
        if not Path(image).exists():
            raise MissingFileError(f"picture '{image}' does not exist")
        try:
            with open_regular(image) as file, Image.open(file, formats=IMAGE_FORMATS) as opened:
                return ImageOps.exif_transpose(opened)  # a copy, so all of it is read here
        except Exception as error:  # a damaged file can lead the decoders to any kind of error
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"picture '{image}' cannot be read: {reason}") from None
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image)
    given = f"a {type(image).__name__}"
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
            return Image.fromarray(image)
        given = f"an array {image.shape} of {image.dtype}"
    raise UserError(
        f"{given} is not a picture: give a path, a PIL image, or an array (H, W, 3) uint8 in RGB"
    )


def _with_8_bits(image: Image.Image) -> Image.Image:
    """Pillow itself would cut larger numbers at 255."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(
            f"a picture of mode '{image.mode}', whose range nobody states: give 8 or 16 bits"
        )
    return image
