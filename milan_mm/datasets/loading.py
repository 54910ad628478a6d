"""Reading images so that a broken file costs one sample, not the run."""

import warnings

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from milan_mm.datasets.image_size import check_stated_size
from milan_mm.datasets.shared import SharedTable
from milan_mm.errors import UserError
from milan_mm.registry import TRANSFORMS

MAX_FAILED_SHARE = 0.01
_SLOTS = 512  # one per worker process, so that no two of them write to the same number


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Reads an image, or, in training, names the file in the log and skips it.

    OpenCV is faster than Pillow but fills the missing part of a truncated file with grey
    without an error. So it decodes complete JPEG files only; all others go to Pillow, which
    notices. Takes the place of mmcv's `LoadImageFromFile`, with the same result keys, in the
    pipelines of mmpretrain, mmdet and mmseg.

    Args:
        to_float32: Return float32 instead of uint8.
        color_type: mmcv's flag, e.g. 'color' (BGR) or 'grayscale'.
        backend_args: Of mmengine's file backend; None reads local files.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = "color",
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(to_float32, color_type, backend_args=backend_args)
        self.counts = SharedTable(_SLOTS, 2)  # reads and failures of each worker
        self.num_images = SharedTable(1)  # set by `UnreadableImagesHook`, in training only

    def transform(self, results: dict) -> dict | None:
        """Needs `img_path`; adds `img` (H, W, 3) uint8, `img_shape` and `ori_shape` (H, W).

        Returns:
            None when the file is missing or damaged: the data set then draws another sample.

        Raises:
            UserError: When too many images of a training run failed, see `check_failures`; in
                validation and tests, where every image counts, at the first one.
        """
        worker = get_worker_info()
        # as numpy arrays: torch's indexing takes longer than the rest of the bookkeeping
        slot = self.counts.numpy()[0 if worker is None else 1 + worker.id % (_SLOTS - 1)]
        slot[0] += 1
        try:
            return self.read(results)
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            slot[1] += 1
            reason = reason_of(error)
        num_images = int(self.num_images.values)
        if not num_images:
            raise UserError(
                f"image '{results['img_path']}' cannot be read: {reason}; repair or remove it "
                "(only training skips such images)"
            )
        print_log(f"skipped unreadable image {results['img_path']}: {reason}", "current", 30)
        reads, failures = self.counts.values.sum(dim=0).tolist()
        check_failures(reads, failures, num_images)
        return None

    def read(self, results: dict) -> dict:
        """Add the pixels and their sizes; raises whatever a damaged file leads to.

        Raises:
            UserError: When the annotation file states another size: its boxes would be elsewhere.
        """
        img = decode(fileio.get(results["img_path"], self.backend_args), self.color_type)
        check_stated_size(results, *img.shape[:2])
        img = img.astype(np.float32) if self.to_float32 else img
        results.update(img=img, img_shape=img.shape[:2], ori_shape=img.shape[:2])
        return results


def decode(content: bytes, color_type: str | int = "color") -> np.ndarray:
    """The pixels of an image file, completely or not at all.

    Args:
        content: Of the file.
        color_type: mmcv's flag, e.g. 'color' (BGR) or 'grayscale'; OpenCV's, for a complete JPEG.

    Returns:
        (H, W, 3) uint8, or (H, W) for 'grayscale'.

    Raises:
        Exception: Of any kind, as damaged files lead decoders to; see `reason_of`.
    """
    backend = "cv2" if is_complete_jpeg(content) else "pillow"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on harmless metadata
        img = mmcv.imfrombytes(content, flag=color_type, backend=backend)
    if img is None:
        raise UserError("OpenCV cannot decode it")
    return img


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in one line; Pillow adds the memory address of its buffer."""
    return " ".join(str(error).split(" <_io")[0].split())[:200] or type(error).__name__


def is_complete_jpeg(content: bytes) -> bool:
    """Whether a JPEG ends with its end-of-image marker; some writers pad it with zeros."""
    return content.startswith(b"\xff\xd8") and content.rstrip(b"\0").endswith(b"\xff\xd9")


def check_failures(reads: int, failures: int, num_images: int) -> None:
    """Refuse to go on when more than 1 % of the images could not be read.

    The share refers to the larger one of the reads so far and the size of the data set, so that a
    single bad file at the start does not stop a run.

    Raises:
        UserError: With the numbers.
    """
    if failures > MAX_FAILED_SHARE * max(reads, num_images):
        raise UserError(
            f"{failures} of {reads} images could not be read, the limit is "
            f"{MAX_FAILED_SHARE:.0%}: the log names them; repair them and resume"
        )
