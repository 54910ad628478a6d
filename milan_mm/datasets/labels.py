"""Reading segmentation labels so that a wrong file is named before a loss or a metric sees it."""

import numpy as np
from mmcv.transforms import BaseTransform

from milan_mm.datasets.decoding import check_end, open_image, read_content, reason_of
from milan_mm.datasets.loading import SkipsUnreadable
from milan_mm.errors import MissingFileError, UserError
from milan_mm.registry import TRANSFORMS
from milan_mm.text import shorten_list

IGNORED = 255  # the label that no loss and no metric counts
MAX_VALUE = 2**16 - 1  # of a label file: whoever counts values takes memory for the largest


class UnreadableLabelError(UserError):
    """A label file that is damaged."""


@TRANSFORMS.register_module()
class LoadLabels(SkipsUnreadable, BaseTransform):
    """Reads a label map, and refuses one that does not fit the classes or the image.

    A file that is missing or damaged is skipped in training, like an image: one rule for both, see
    `LoadImage`.

    Takes the place of mmseg's `LoadAnnotations`, with the same result keys. That one cuts every
    value to 8 bits and hands on whatever it finds: a value without a class ends a training on a GPU
    without a file name, and an evaluation leaves such pixels out silently. Whether zero is
    a label of its own is stated once, by the data set (`reduce_zero_label`).

    Args:
        num_classes: Of the head.
        backend_args: Of mmengine's file backend; None reads local files.
    """

    files = "labels"

    def __init__(self, num_classes: int, backend_args: dict | None = None) -> None:
        if not 1 <= num_classes <= IGNORED:
            raise UserError(f"num_classes {num_classes} is outside 1..{IGNORED}: labels are 8 bits")
        super().__init__()
        self.num_classes = num_classes
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict | None:
        """Needs `seg_map_path`, `reduce_zero_label`, `label_map`; compares with `ori_shape`.

        Adds `gt_seg_map` (H, W) uint8: 0 to num_classes-1, or 255 where no label counts.

        Returns:
            None when the file is missing or damaged: the data set then draws another sample. The
            sample as it is when no data set made it: an inferencer predicts without labels.

        Raises:
            MissingFileError, UnreadableLabelError: Outside of training, for such a file.
            UserError: When it is not a single-channel image, differs in size from its image, or
                holds values without a class; or when too many files of a training failed. All name
                the file.
        """
        if not {"seg_map_path", "seg_fields"} & results.keys():
            return results
        path = results["seg_map_path"]
        self.count(failed=False)
        try:
            labels = read_labels(path, results.get("img_path"), self.backend_args)
        except (MissingFileError, UnreadableLabelError) as error:
            self.skip(path, str(error), error)
            return None
        shape = tuple(results.get("ori_shape", labels.shape))
        if labels.shape != shape:
            raise UserError(
                f"label '{path}' has {_size(labels.shape)} pixels, its image "
                f"'{results.get('img_path')}' has {_size(shape)}: give both one size"
            )
        reduces = bool(results["reduce_zero_label"])
        table = label_table(reduces, results.get("label_map"))
        self._check_values(path, labels, table, reduces)
        results["gt_seg_map"] = table[labels]
        results["seg_fields"].append("gt_seg_map")
        return results

    def _check_values(
        self, path: str, labels: np.ndarray, table: np.ndarray, reduces: bool
    ) -> None:
        wrong = values_without_class(np.bincount(labels.ravel()), table, self.num_classes)
        if not wrong:
            return
        values = shorten_list(wrong)
        first = int(reduces)
        allowed = f"{first}..{first + self.num_classes - 1} for the {self.num_classes} classes"
        remedy = "correct the file or the number of classes"
        if reduces:
            allowed += f", 0 and {IGNORED} for pixels without label (reduce_zero_label=True)"
        else:
            allowed += f", {IGNORED} for pixels without label"
            if wrong == [self.num_classes]:
                remedy += (
                    "; if 0 stands for pixels without label, set reduce_zero_label=True in the "
                    "data set"
                )
        raise UserError(f"label '{path}' holds {values}; allowed are {allowed}: {remedy}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_classes={self.num_classes})"


def values_without_class(counts: np.ndarray, table: np.ndarray, num_classes: int) -> list[int]:
    """Values of a label file that are neither a class nor "no label".

    Args:
        counts: Pixels by stored value, as `np.bincount` gives them. table: See `label_table`.
    """
    found = np.flatnonzero(counts)
    inside = found[found < len(table)]
    classless = (table[inside] >= num_classes) & (table[inside] != IGNORED)
    return [*inside[classless].tolist(), *found[found >= len(table)].tolist()]  # of 16-bit files


def label_table(reduce_zero_label: bool, label_map: dict[int, int] | None) -> np.ndarray:
    """What becomes of each value of a label file.

    Args:
        reduce_zero_label: 0 means no label, and class c is stored as c+1.
        label_map: mmseg's choice of classes, from old to new; None keeps them all.

    Returns:
        (256,) uint8 by stored value; 255 where no label counts.
    """
    values: np.ndarray = np.arange(256)
    if reduce_zero_label:
        values = np.where((values == 0) | (values == IGNORED), IGNORED, values - 1)
    chosen = values.copy()
    for old, new in (label_map or {}).items():
        chosen[values == old] = new
    return chosen.astype(np.uint8)


def read_labels(
    path: str, img_path: str | None = None, backend_args: dict | None = None
) -> np.ndarray:
    """The values of a label file: (H, W), an integer type.

    Args:
        img_path: Of its image, for messages.

    Raises:
        MissingFileError: When there is no such file.
        UnreadableLabelError: When it is damaged.
        UserError: When it is not a single-channel image of whole numbers.
    """
    try:
        content = read_content(path, backend_args)
        with open_image(content) as image:
            labels = np.asarray(image)
        check_end(content, labels)
    except FileNotFoundError:
        raise MissingFileError(
            f"image '{img_path}' has no label file '{path}': add it, or remove the image"
        ) from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise UnreadableLabelError(
            f"label '{path}' cannot be read: {reason_of(error)}; repair it, or remove it and its "
            "image"
        ) from None
    if labels.ndim != 2:
        raise UserError(
            f"label '{path}' has {labels.shape[2]} channels: labels are single-channel images "
            "whose values are class numbers, so turn colours into numbers first"
        )
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise UserError(
            f"label '{path}' has values of type {labels.dtype}: save it with 8 bits per pixel"
        )
    if (largest := int(labels.max(initial=0))) > MAX_VALUE:
        raise UserError(
            f"label '{path}' holds {largest}, the limit is {MAX_VALUE}: save it with 8 bits per "
            "pixel"
        )
    return labels


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
