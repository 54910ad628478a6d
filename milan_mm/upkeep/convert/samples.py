"""What readers of other programs' folders hand on: images, and what is known about each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from milan_mm.errors import UserError
from milan_mm.text import count, shorten

ALL = "all"  # the split of a folder that has none


@dataclass
class Thing:
    """An annotated object.

    Attributes:
        label: Number of its class.
        box: x, y, width and height in pixels; x and y of the upper left corner, from 0.
        mask: Polygons [[x, y, x, y, ...], ...] or run lengths as in COCO's format; None without.
        crowd: A region that is neither learnt from nor evaluated.
        area: In pixels, where the source says it.
    """

    label: int
    box: tuple[float, float, float, float]
    mask: list[list[float]] | dict | None = None
    crowd: bool = False
    area: float | None = None


@dataclass
class Sample:
    """An image of the source.

    Attributes:
        path: The file. name: In the new folder, with the separator '/'.
        width, height: As shown, in pixels; 0 where a task does not need them.
        things: Objects of a detection. label: The class of a classification.
        mask: Label map of a segmentation. table: What its values or colours become; None where
            they are numbers of classes already.
    """

    path: Path
    name: str
    width: int = 0
    height: int = 0
    things: list[Thing] = field(default_factory=list)
    label: int | None = None
    mask: Path | None = None
    table: Mapping | None = None

    @property
    def labels(self) -> set[int]:
        """Numbers of the classes that the image is known to show."""
        found = {thing.label for thing in self.things}
        return found if self.label is None else found | {self.label}


_LONGEST = 500  # letters of a detail, which holds names of others


class Dropped:
    """Counts what cannot be used, by reason; a reason completes the sentence "17 images ..."."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[str]]] = dict(images={}, objects={})

    def image(self, reason: str, detail: object) -> None:
        """Leave an image out."""
        self._found["images"].setdefault(reason, []).append(shorten(str(detail), _LONGEST))

    def object(self, reason: str, detail: object) -> None:
        """Leave an object out."""
        self._found["objects"].setdefault(reason, []).append(shorten(str(detail), _LONGEST))

    @property
    def images(self) -> str:
        """What is wrong with images, '' where nothing is."""
        return self._list("images")

    def check(self, kept: Mapping[str, int], limit: float) -> list[str]:
        """A line about images and one about objects, where some are left out.

        Args:
            kept: Images and objects that are used. limit: Share that may be dropped, 0 to 1.

        Raises:
            UserError: When more are dropped.
        """
        lines = []
        for what, reasons in self._found.items():
            dropped = sum(map(len, reasons.values()))
            total = dropped + kept[what]
            if dropped > limit * total:
                share = -(-1000 * dropped // total) / 1000  # rounded up
                raise UserError(
                    f"{dropped:,} of {total:,} {what} would be dropped: {self._list(what)}; the "
                    f"limit is {100 * limit:.3g}%: correct them, or pass --max-dropped {share:g} "
                    "to leave them out"
                )
            lines += [f"dropped {what}: {self._list(what)}"] if reasons else []
        return lines

    def _list(self, what: str) -> str:
        reasons = self._found[what].items()
        return "; ".join(f"{len(d):,} {reason} (first: {d[0]})" for reason, d in reasons)


@dataclass
class Found:
    """What a reader found.

    Attributes:
        classes: Their names, by number.
        splits: Samples by 'train', 'val' and 'test', or those of `ALL`.
        notes: Lines for the user.
        pixels: Of label maps, once written: (256,) for each split, by value.
    """

    classes: list[str]
    splits: dict[str, list[Sample]]
    dropped: Dropped = field(default_factory=Dropped)
    notes: list[str] = field(default_factory=list)
    pixels: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def samples(self) -> Iterable[Sample]:
        return (sample for samples in self.splits.values() for sample in samples)

    def count_classes(self, split: str) -> Counter[int]:
        """Objects, or images of a classification, by class."""
        samples = self.splits.get(split, [])
        counts = Counter(thing.label for sample in samples for thing in sample.things)
        return counts + Counter(s.label for s in samples if s.label is not None)


def check_names(names: Iterable[object], where: Path) -> list[str]:
    """The names of classes, which must be there, and differ.

    Raises:
        UserError: Names the first that is empty, repeated, or not text.
    """
    checked: list[str] = []
    for number, name in enumerate(names):
        text = " ".join(str(name).split()) if isinstance(name, (str, int, float)) else ""
        if not text:
            what = (
                "an empty name" if isinstance(name, str) else f"a {type(name).__name__} for a name"
            )
            raise UserError(f"class {number} of '{where}' has {what}: give it a name")
        if text in checked:
            raise UserError(f"'{where}' names the class '{text}' twice: give each its own name")
        checked.append(text)
    if not checked:
        raise UserError(f"'{where}' names {count(0, 'class')}es: add their names")
    return checked
