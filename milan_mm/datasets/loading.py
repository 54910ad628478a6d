"""Reading images so that a broken file costs one sample, not the run."""

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from milan_mm.datasets.decoding import decode, max_pixels, read_content, reason_of
from milan_mm.datasets.image_size import check_stated_size
from milan_mm.datasets.shared import SharedTable
from milan_mm.errors import UserError
from milan_mm.registry import TRANSFORMS

MAX_FAILED_SHARE = 0.01
_SLOTS = 512  # one per worker process, so that no two of them write to the same number


class SkipsUnreadable:
    """What transforms share that read a file of each sample: in training they skip and count.

    Attributes:
        files: What messages call the files.
        counts: Reads and failures of each worker.
        num_images: Samples of the data set, set by `UnreadableImagesHook`, in training only.
    """

    files = "images"

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.counts = SharedTable(_SLOTS, 2)
        self.num_images = SharedTable(1)

    def count(self, failed: bool) -> None:
        """Add a read, or to those that failed."""
        worker = get_worker_info()
        # as numpy arrays: torch's indexing takes longer than the rest of the bookkeeping
        slot = self.counts.numpy()[0 if worker is None else 1 + worker.id % (_SLOTS - 1)]
        slot[int(failed)] += 1

    def skip(self, path: str, reason: str, error: UserError) -> None:
        """Leave a sample out of training, and name its file in the log.

        Args:
            reason: Why the file cannot be read.
            error: Raised outside of training, where every sample counts.

        Raises:
            UserError: That, or when too many files of a training failed, see `check_failures`.
        """
        self.count(failed=True)
        num_images = int(self.num_images.values)
        if not num_images:
            raise error
        kind = self.files.removesuffix("s")
        print_log(f"skipped unreadable {kind} {path}: {reason}", "current", 30)
        reads, failures = self.counts.values.sum(dim=0).tolist()
        check_failures(reads, failures, num_images, self.files)


@TRANSFORMS.register_module(name=["LoadImage", "LoadImageFromFile"])
class LoadImage(SkipsUnreadable, LoadImageFromFile):
    """Reads an image, or, in training, names the file in the log and skips it.

    Takes the place of mmcv's `LoadImageFromFile`, with the same result keys, in the pipelines of
    mmpretrain, mmdet and mmseg. How files are decoded: decoding.py. It is registered under that
    name as well, see inferencing.py.

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
        max_pixels()  # refuses a limit that is not a number before the run starts

    def transform(self, results: dict) -> dict | None:
        """Needs `img_path`; adds `img` (H, W, 3) uint8, `img_shape` and `ori_shape` (H, W).

        Returns:
            None when the file is missing or damaged: the data set then draws another sample.

        Raises:
            UserError: When too many images of a training run failed, see `check_failures`; in
                validation and tests, where every image counts, at the first one.
        """
        self.count(failed=False)
        try:
            return self.read(results)
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            reason = reason_of(error)
        path = results["img_path"]
        self.skip(
            path,
            reason,
            UserError(
                f"image '{path}' cannot be read: {reason}; repair or remove it (only training "
                "skips such images)"
            ),
        )
        return None

    def read(self, results: dict) -> dict:
        """Add the pixels and their sizes; raises whatever a damaged file leads to.

        Raises:
            UserError: When the annotation file states another size: its boxes would be elsewhere.
        """
        img = decode(read_content(results["img_path"], self.backend_args), self.color_type)
        check_stated_size(results, *img.shape[:2])
        img = img.astype(np.float32) if self.to_float32 else img
        results.update(img=img, img_shape=img.shape[:2], ori_shape=img.shape[:2])
        return results


def check_failures(reads: int, failures: int, num_images: int, files: str = "images") -> None:
    """Refuse to go on when more than 1 % of the files could not be read.

    The share refers to the larger one of the reads so far and the size of the data set, so that a
    single bad file at the start does not stop a run.

    Args:
        num_images: Samples of the data set, also where a trial reads few of them.
        files: What they are called.

    Raises:
        UserError: With the numbers.
    """
    whole = max(reads, num_images)
    if failures > MAX_FAILED_SHARE * whole:
        raise UserError(
            f"{failures} of {whole} {files} could not be read, the limit is "
            f"{MAX_FAILED_SHARE:.0%}: the log names them; repair them and resume"
        )
