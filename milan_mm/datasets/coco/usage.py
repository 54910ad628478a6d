"""Which objects of a COCO file a detector learns from, and why not from the others.

mmdet leaves objects out without a word; the reasons here are those of its `CocoDataset`. Its
`CocoMetric`, which reads the file by itself, leaves out fewer: what no training learns from counts
as missed there.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from milan_mm.datasets.coco.faults import entry_name
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.errors import UserError
from milan_mm.text import count

MAX_DROPPED_SHARE = 0.01


class Reason(StrEnum):
    """Why an object is left out; each completes the sentence "17 ..."."""

    UNKNOWN_IMAGE = "of images that the file does not list"
    UNKNOWN_CATEGORY = "of categories that the file does not list"
    IGNORED = "with 'ignore' set"
    SMALL = "with a side below 1 pixel"
    OUTSIDE = "outside their image"
    NO_AREA = "with an area of 0 or less"
    RUN_LENGTHS = "with run lengths, which poly2mask=False cannot read"
    SMALL_IMAGE = "on images with a side below filter_cfg.min_size"


REMEDIES = {
    Reason.UNKNOWN_IMAGE: "list the images, or remove the annotations",
    Reason.UNKNOWN_CATEGORY: "list the categories, or remove the annotations",
    Reason.IGNORED: "remove the flag to learn from them, or the annotations to do without",
    Reason.SMALL: "correct the boxes [x, y, width, height], or remove the annotations",
    Reason.OUTSIDE: "correct the boxes [x, y, width, height], or remove the annotations",
    Reason.NO_AREA: "set area to that of the mask in pixels",
    Reason.RUN_LENGTHS: "set poly2mask=True in LoadAnnotations",
    Reason.SMALL_IMAGE: "set filter_cfg.min_size=0 in the data set",
}
_UNKNOWN = (Reason.UNKNOWN_IMAGE, Reason.UNKNOWN_CATEGORY)


@dataclass(frozen=True)
class Usage:
    """What becomes of the annotations of the chosen categories.

    Attributes:
        learnt: (K,) int64, numbers of the annotations that are learnt from, or evaluated.
        dropped: Numbers of those that are left out, by reason; each has the first that applies.
        unlearnable: Of an evaluation: numbers of those that it counts, and a training would drop.
        crowds: Number of crowd regions, which the protocol ignores.
        empty: Number of images without any annotation.
    """

    file: CocoFile
    learnt: np.ndarray
    dropped: dict[Reason, np.ndarray]
    crowds: int
    empty: int
    unlearnable: dict[Reason, np.ndarray] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images with an object to learn from."""
        return len(np.unique(self.file.columns.image[self.learnt]))

    @property
    def num_dropped(self) -> int:
        return sum(map(len, self.dropped.values()))

    def reasons(self, found: Mapping[Reason, np.ndarray]) -> str:
        """'3 with an area of 0 or less (first: annotation 7)', for each reason."""
        return ", ".join(
            f"{len(numbers):,} {reason} (first: {self._name(numbers[0])})"
            for reason, numbers in found.items()
        )

    def sentence(self, verb: str) -> str:
        """What is used beside what is not, in one line.

        Args:
            verb: Of the objects: 'are learnt from' or 'are evaluated'.
        """
        if len(self.learnt) == 1:
            verb = verb.replace("are ", "is ", 1)
        parts = [f"{count(len(self.learnt), 'object')} in {count(self.images, 'image')} {verb}"]
        if self.dropped:
            number = self.num_dropped
            parts.append(f"{number:,} {_are(number)} dropped: {self.reasons(self.dropped)}")
        if self.unlearnable:
            number = sum(map(len, self.unlearnable.values()))
            parts.append(
                f"{number:,} of them {'counts' if number == 1 else 'count'} in AP, and a training "
                f"would drop such objects: {self.reasons(self.unlearnable)}"
            )
        if self.crowds:
            regions = f"{count(self.crowds, 'crowd region')} {_are(self.crowds)}"
            parts.append(f"{regions} ignored, as the protocol asks")
        return "; ".join(parts)

    def check(self) -> None:
        """Refuse when too much would be left out, or nothing is left.

        Raises:
            UserError: With counts, reasons and remedies.
        """
        whole = self.num_dropped + len(self.learnt)
        for found, fate in (
            (self.dropped, "would be dropped"),
            (self.unlearnable, "would count in AP, and no training learns from such"),
        ):
            number = sum(map(len, found.values()))
            if number > MAX_DROPPED_SHARE * whole:
                most = max(found, key=lambda reason: len(found[reason]))
                raise UserError(
                    f"{number:,} of {whole:,} objects of '{self.file.path}' {fate} "
                    f"({self.reasons(found)}), the limit is {MAX_DROPPED_SHARE:.0%}: "
                    f"{REMEDIES[most]}"
                )
        if not whole:
            raise UserError(
                f"annotation file '{self.file.path}' has no object on its "
                f"{len(self.file.images)} images, out of {len(self.file.annotations)} annotations: "
                "there is nothing to learn, and AP is undefined: annotate some"
            )

    def _name(self, number: int) -> str:
        return entry_name(int(number), self.file.annotations[number])


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def usage(
    file: CocoFile,
    category_ids: Collection | None = None,
    min_size: float = 0,
    without_run_lengths: bool = False,
    is_evaluation: bool = False,
) -> Usage:
    """Count what mmdet's `CocoDataset` would learn from, or what its `CocoMetric` evaluates.

    Annotations that are incomplete or have no box count as nothing here; `CocoFile.problems` names
    them.

    Args:
        category_ids: Those that will be used; None takes all of the file's.
        min_size: Of the data set's `filter_cfg`, pixels: images with a smaller side are left out.
        without_run_lengths: `LoadAnnotations` has `poly2mask=False`.
        is_evaluation: Count what is evaluated.
    """
    columns = file.columns
    x, y, width, height = columns.box.T
    image_width, image_height = columns.size[columns.image].T
    with np.errstate(invalid="ignore", over="ignore"):
        across = np.minimum(x + width, image_width) - np.maximum(x, 0)
        down = np.minimum(y + height, image_height) - np.maximum(y, 0)
        tests = {
            Reason.UNKNOWN_IMAGE: columns.image < 0,
            Reason.UNKNOWN_CATEGORY: columns.category < 0,
            Reason.IGNORED: columns.ignored,
            Reason.SMALL: (width < 1) | (height < 1),
            Reason.OUTSIDE: (across <= 0) | (down <= 0),
            Reason.NO_AREA: columns.area <= 0,
        }
    if without_run_lengths:
        masks = (
            file.annotations[i].get("segmentation") if ok else None
            for i, ok in enumerate(columns.complete.tolist())
        )
        tests[Reason.RUN_LENGTHS] = np.fromiter(
            (isinstance(mask, dict) for mask in masks), bool, len(columns.complete)
        )
    if min_size:
        tests[Reason.SMALL_IMAGE] = (columns.size.min(axis=1) < min_size)[columns.image]
    chosen = columns.complete & ~np.isnan(columns.box).any(axis=1)
    if category_ids is not None:
        wanted = [category_id in category_ids for category_id in file.category_names]
        chosen &= np.array([*wanted, True])[columns.category]  # -1: of no category
    annotated = np.unique(columns.image[chosen])
    crowds = int((chosen & columns.crowd).sum())
    left = chosen & ~columns.crowd
    dropped: dict[Reason, np.ndarray] = {}
    unlearnable: dict[Reason, np.ndarray] = {}
    used = left.copy()
    for reason, test in tests.items():
        hit = left & test
        left &= ~test
        # pycocotools looks for objects by image and category, and in areas from 0 on
        counts = is_evaluation & (reason not in _UNKNOWN) & (columns.area >= 0)
        for found, chosen in ((dropped, hit & ~counts), (unlearnable, hit & counts)):
            if (numbers := np.flatnonzero(chosen)).size:
                found[reason] = numbers
        used &= ~(hit & ~counts)
    empty = len(file.images) - int((annotated >= 0).sum())
    return Usage(file, np.flatnonzero(used), dropped, crowds, empty, unlearnable)
