"""What a file may ask for: memory that follows from its size on disk, and nothing else.

One rule for every format: reading a file fills at most `FACTOR` times its size, and `SPARE` bytes
more. Tensors of weights files take their size once as storages and once as views; the rest leaves
room for names, settings and tensors that share a storage. It is counted before it is allocated.
"""

import math
from collections.abc import Sequence

FACTOR, SPARE = 4, 64 * 2**20
# Of a list of contents (zip's, safetensors', a JSON file), whose entries take more than their text.
MAX_LIST = 8 * 2**20
_MAX_DIMENSIONS = 16


class RefusedError(Exception):
    """A file that is understood, but not read; its text goes on after "weights file 'PATH' "."""


def check_list(size: int, what: str) -> None:
    """Check the length of a list of contents, before it is read.

    Raises:
        RefusedError: When it is too long.
    """
    if size > MAX_LIST:
        raise RefusedError(
            f"has a list of {what} of {size / 2**20:.0f} MiB, and {MAX_LIST // 2**20} are read: it "
            "is damaged, or made to harm"
        )


class Budget:
    """The memory that one file may still fill.

    Args:
        size: Of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = FACTOR * size + SPARE

    def take(self, number: int) -> None:
        """Count bytes that are about to be allocated.

        Raises:
            RefusedError: When the file has asked for too much.
        """
        self.left -= number
        if self.left < 0:
            raise RefusedError(
                f"asks for more memory than a file of {self.size / 2**20:.1f} MiB may: {FACTOR} "
                f"times its size and {SPARE // 2**20} MiB more; it is damaged, made to harm, or "
                "its tensors share their numbers: save clones of them, or safetensors"
            )

    def take_array(self, shape: Sequence[int], itemsize: int) -> int:
        """Count an array.

        Args:
            shape: As a file states it, unchecked.
            itemsize: Bytes per element.

        Returns:
            Its bytes.

        Raises:
            RefusedError: When the file has asked for too much.
            ValueError: When this is not a shape.
        """
        if len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {str(tuple(shape))[:60]}")
        # of an array without elements too: whoever resizes it would multiply its other sides
        self.take(max(shape, default=0))
        self.left += max(shape, default=0)
        number = math.prod(shape) * itemsize
        self.take(number)
        return number
