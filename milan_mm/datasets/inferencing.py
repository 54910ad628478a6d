"""The first transform of a test pipeline, as OpenMMLab's inferencers exchange it.

They look for a transform named exactly `LoadImageFromFile` and write another name in its place, for
files as well as arrays. So the recipes call ours that, in the scope of this package
(`dict(type="LoadImageFromFile", _scope_="milan_mm")`), and the names that are written in its place
are here: an inferencer then decodes a file as `tools/test.py` does.
"""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from milan_mm.datasets.loading import LoadImage
from milan_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromNDArray(LoadImage):
    """Takes an image that was read already, in BGR like all images of OpenMMLab's pipelines."""

    def read(self, results: dict) -> dict:
        """Needs `img` (H, W, 3) uint8; adds `img_path` (None), `img_shape` and `ori_shape`."""
        img = results["img"]
        img = img.astype(np.float32) if self.to_float32 else img
        results.update(img=img, img_path=None, img_shape=img.shape[:2], ori_shape=img.shape[:2])
        return results


@TRANSFORMS.register_module()
class InferencerLoader(BaseTransform):
    """Reads an image file, or takes an array.

    Args:
        settings: Of `LoadImage`.
    """

    def __init__(self, **settings: Any) -> None:
        self.from_file = LoadImage(**settings)
        self.from_array = LoadImageFromNDArray(**settings)

    def transform(self, results: str | np.ndarray | dict) -> dict | None:
        """A path, an array (H, W, 3) uint8 BGR, or a dict with `img_path` or `img`.

        Raises:
            UserError: For a file that cannot be read.
        """
        if isinstance(results, str):
            results = dict(img_path=results)
        elif isinstance(results, np.ndarray):
            results = dict(img=results)
        return (self.from_array if "img" in results else self.from_file).transform(results)
