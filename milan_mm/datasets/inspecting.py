"""Looking into a single image file: can it be read, and what size has it?"""

import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from milan_mm.datasets.decoding import decode, reason_of
from milan_mm.files import read_regular

Result = TypeVar("Result")
# libjpeg's remarks on missing pixels, which it fills with grey; others, e.g. on spare bytes, are
# harmless
_DAMAGE = re.compile(r"(?:Corrupt JPEG data: )?premature end.*|.*bad Huffman code.*", re.IGNORECASE)


class Reading(NamedTuple):
    """What decoding an image gave.

    Attributes:
        size: Height and width in pixels; None where it cannot be read.
        error: What is wrong with it, or ''.
    """

    size: tuple[int, int] | None
    error: str = ""


def read_image(path: str | Path) -> Reading:
    """Decode an image completely, by the reader that training uses.

    Training reads a JPEG whose decoder only warns; here that is an error, beside its size.
    """
    try:
        content = read_regular(path)
        img, remarks = _with_remarks(lambda: decode(content))
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        return Reading(None, reason_of(error))
    if damage := _DAMAGE.search(remarks):
        return Reading(img.shape[:2], f"its decoder warns: {damage[0].strip()}")
    return Reading(img.shape[:2])


def _with_remarks(function: Callable[[], Result]) -> tuple[Result, str]:
    """Call a function; returns also what C libraries write to the standard error meanwhile.

    libjpeg has no other way to say that a file is damaged.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            result = function()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return result, file.read().decode(errors="replace")
