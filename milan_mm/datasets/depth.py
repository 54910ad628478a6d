"""Reading depth maps so that a wrong file is named before a loss or a metric sees it."""

import numpy as np
from mmcv.transforms import BaseTransform

from milan_mm.datasets.decoding import check_end, open_image, read_content, reason_of
from milan_mm.datasets.labels import UnreadableLabelError
from milan_mm.datasets.loading import SkipsUnreadable
from milan_mm.errors import MissingFileError, UserError
from milan_mm.registry import TRANSFORMS

NYU_FRAME = (43, 45, 608, 472)  # x1, y1, x2, y2 in pixels: inside, images of Kinect have depths
BITS = 16
# More depths beyond the largest of the recipe than this mean another unit or another scene. Of
# NYU's own a few per mille are beyond 10 m.
MAX_FAR_SHARE = 0.5


@TRANSFORMS.register_module()
class LoadDepth(SkipsUnreadable, BaseTransform):
    """Reads a depth map of 16 bits per pixel, and refuses one that does not fit image or unit.

    A file that is missing or damaged is skipped in training, like an image: one rule for both, see
    `LoadImage`.

    Takes the place of mmseg's `LoadDepthAnnotation`, with the same result keys, which names no file
    and takes any number for a depth.

    Args:
        max_depth: The largest depth that counts, in metres: what is farther becomes 0, no depth.
        scale: Units of a file in a metre: 1000 for millimetres.
        backend_args: Of mmengine's file backend; None reads local files.
    """

    files = "depth maps"

    def __init__(
        self, max_depth: float, scale: float = 1000.0, backend_args: dict | None = None
    ) -> None:
        if scale <= 0 or max_depth <= 0:
            raise UserError(f"max_depth {max_depth} and scale {scale}: both must be above 0")
        super().__init__()
        self.max_depth, self.scale = max_depth, scale
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict | None:
        """Needs `depth_map_path`; compares with `ori_shape`.

        Adds `gt_depth_map` (H, W) float32 in metres, 0 where there is no depth.

        Returns:
            None when the file is missing or damaged: the data set then draws another sample. The
            sample as it is when no data set made it: an inferencer predicts without depths.

        Raises:
            MissingFileError, UnreadableLabelError: Outside of training, for such a file.
            UserError: When it is not a map of depths, or differs in size from its image; or when
                too many files of a training failed. All name the file.
        """
        if not {"depth_map_path", "seg_fields"} & results.keys():
            return results
        path, image = results["depth_map_path"], results.get("img_path")
        self.count(failed=False)
        try:
            values = read_depth(path, image, self.backend_args)
        except (MissingFileError, UnreadableLabelError) as error:
            self.skip(path, str(error), error)
            return None
        shape = tuple(results.get("ori_shape", values.shape))
        if values.shape != shape:
            raise UserError(
                f"depth map '{path}' has {values.shape[1]}x{values.shape[0]} pixels, its image "
                f"'{image}' has {shape[1]}x{shape[0]}: give both one size"
            )
        results["gt_depth_map"] = self.in_metres(path, values)
        results["depth_rescale_factor"] = 1 / self.scale
        results["seg_fields"].append("gt_depth_map")
        return results

    def in_metres(self, path: str, values: np.ndarray) -> np.ndarray:
        """Depths of the values of a file: (H, W) float32, 0 beyond the largest.

        Raises:
            UserError: When most are beyond it.
        """
        depth = (values / self.scale).astype(np.float32)
        far = depth > self.max_depth
        if far.sum() > MAX_FAR_SHARE * max(np.count_nonzero(values), 1):
            raise UserError(
                f"depth map '{path}' is farther than max_depth {self.max_depth:g} m in "
                f"{far.sum() / np.count_nonzero(values):.0%} of its depths, at {self.scale:g} "
                "units in a metre: set LoadDepth.scale to the units of the files, or max_depth"
            )
        depth[far] = 0
        return depth

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_depth={self.max_depth}, scale={self.scale})"


@TRANSFORMS.register_module()
class CropFrame(BaseTransform):
    """Cuts away the frame that an image has where camera and depth sensor do not overlap.

    Args:
        box: x1, y1, x2, y2 of what stays, in pixels of an image of `size`.
        size: (height, width) that the box is for; it grows and shrinks with other images.
    """

    def __init__(
        self,
        box: tuple[int, int, int, int] = NYU_FRAME,
        size: tuple[int, int] = (480, 640),
    ) -> None:
        self.box, self.size = box, size

    def transform(self, results: dict) -> dict:
        """Needs `img`; crops it and the maps of `seg_fields`, and sets `img_shape`."""
        height, width = results["img"].shape[:2]
        x1, y1, x2, y2 = self.box
        rows = slice(y1 * height // self.size[0], y2 * height // self.size[0])
        columns = slice(x1 * width // self.size[1], x2 * width // self.size[1])
        for key in ("img", *results.get("seg_fields", ())):
            results[key] = results[key][rows, columns]
        results["img_shape"] = results["img"].shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(box={self.box}, size={self.size})"


def read_depth(
    path: str, img_path: str | None = None, backend_args: dict | None = None
) -> np.ndarray:
    """The values of a depth file: (H, W), an integer type of more than 8 bits.

    Args:
        img_path: Of its image, for messages.

    Raises:
        MissingFileError: When there is no such file.
        UnreadableLabelError: When it is damaged.
        UserError: When it is not a single-channel image of 16 bits.
    """
    try:
        content = read_content(path, backend_args)
        with open_image(content) as image:
            values = np.asarray(image)
        check_end(content, values)
    except FileNotFoundError:
        raise MissingFileError(
            f"image '{img_path}' has no depth map '{path}': add it, or remove the image"
        ) from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise UnreadableLabelError(
            f"depth map '{path}' cannot be read: {reason_of(error)}; repair it, or remove it and "
            "its image"
        ) from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer) or values.itemsize < 2:
        kind = f"{values.shape[2]} channels" if values.ndim == 3 else f"values of {values.dtype}"
        raise UserError(
            f"depth map '{path}' has {kind}: depths are single-channel images of {BITS} bits per "
            "pixel, e.g. in millimetres; pictures of depths in colours or grey have lost them"
        )
    return values
