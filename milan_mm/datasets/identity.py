"""Which data these are: a hash of names and sizes, which stays the same when the folder moves."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.fileio import list_dir_or_file

# Files whose sizes count. Asking for those of all of ImageNet takes minutes over a network.
SAMPLE = 10_000


def data_hash(dataset: Mapping[str, Any]) -> str | None:
    """Hash of the files that the settings of a data set name; no image is read.

    Of an annotation file the content counts. Of a folder the names of all files count, and the
    sizes of up to `SAMPLE` of them, spread over all.

    Args:
        dataset: Of a config: `data_root`, `ann_file`, `data_prefix` or `img_dir`.

    Returns:
        16 hexadecimal digits; None where the settings name no file or folder that exists.
    """
    digest = hashlib.sha256()
    found = False
    root = Path(dataset.get("data_root") or "")
    annotations = root / str(dataset.get("ann_file") or "")
    if annotations.is_file():
        with annotations.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]
    for folder in _folders(root, dataset):
        names = sorted(list_dir_or_file(str(folder), list_dir=False, recursive=True))
        found = found or bool(names)
        digest.update("\n".join(["", *names]).encode(errors="surrogateescape"))
        step = max(-(-len(names) // SAMPLE), 1)
        sizes = [os.path.getsize(folder / name) for name in names[::step]]
        digest.update(repr(sizes).encode())
    return digest.hexdigest()[:16] if found else None


def _folders(root: Path, dataset: Mapping[str, Any]) -> Iterator[Path]:
    prefix = dataset.get("data_prefix") or dataset.get("split") or ""
    prefixes = list(prefix.values()) if isinstance(prefix, Mapping) else [prefix]
    for folder in dict.fromkeys(root / str(name or "") for name in prefixes):
        if folder != Path() and folder.is_dir():
            yield folder
