"""Are image and annotation of one size? If not, boxes may belong to pixels that are turned."""

import math
from pathlib import Path

from milan_mm.datasets.coco.images import wrong_size
from milan_mm.upkeep.convert.samples import Dropped
from milan_mm.upkeep.convert.source import shown_size


def size_as_stated(
    path: Path, stated: tuple[float, float], dropped: Dropped
) -> tuple[int, int] | None:
    """Width and height of an image as training reads it; None, and counted, where they differ.

    Args:
        stated: Those of the annotation; 0 or NaN where it does not say them.
    """
    size = shown_size(path, dropped)
    unknown = any(math.isnan(side) or side <= 0 for side in stated)
    if size is None or unknown or size == stated:
        return size
    # the sentence knows of the turn of EXIF, and ends with the remedy
    detail = wrong_size(path, dict(width=round(stated[0]), height=round(stated[1])))
    dropped.image("of another size than annotated", f"'{path}' {detail}")
    return None
