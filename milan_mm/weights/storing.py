"""Writing tensors to a safetensors file: whole or not at all, with the usual permissions."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from milan_mm.files import write_whole


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file.

    The library's own `save_file` writes to a hidden file that only its owner may read, and a kill
    leaves it behind.

    Args:
        path: An existing file is replaced in one step.
        tensors: By name.
        metadata: Of the file.

    Raises:
        OSError: The disk is full or not writable; the previous file is whole.
    """
    content = save({name: t.contiguous() for name, t in tensors.items()}, metadata)
    write_whole(path, content)
