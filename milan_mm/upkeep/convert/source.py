"""The folder that is converted, and what the user says about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


@dataclass(frozen=True)
class Source:
    """What is read.

    Attributes:
        root: The folder. file: The one file that describes it, where the user gave one.
        images: Folder of the images, where they are not below `root`.
        voc_origin: The first pixel of Pascal VOC's boxes, 0 or 1; None decides by the boxes.
    """

    root: Path
    file: Path | None = None
    images: Path | None = None
    voc_origin: int | None = None

    @classmethod
    def of(cls, given: Path, images: Path | None = None, voc_origin: int | None = None) -> "Source":
        """A folder, or that of a file; of annotations/instances_default.json the one above."""
        if given.is_dir():
            return cls(given, None, images, voc_origin)
        folder = given.parent
        root = folder.parent if folder.name == "annotations" else folder
        return cls(root, given, images, voc_origin)

    @property
    def given(self) -> Path:
        """What the user gave."""
        return self.file or self.root

    @property
    def image_roots(self) -> list[Path]:
        """Where images are looked for."""
        return [self.images] if self.images else [self.root]


def progress(items: Sequence[Item], title: str) -> Iterable[Item]:
    """The items, with a bar on stderr."""
    return tqdm(items, desc=title, unit=" images", smoothing=0.05)
