"""Which data these are: a hash of names and sizes, which stays the same when the folder moves."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from milan_mm.datasets.folders import is_image
from milan_mm.files import sha256_of

# Files whose sizes count. Asking for those of all of ImageNet takes minutes over a network.
SAMPLE = 10_000
DIGITS = 16


def data_hash(dataset: Mapping[str, Any]) -> str | None:
    """Hash of the files that the settings of a data set name; no image is read.

    Of an annotation file the content counts. Of a folder the names of all images count, and the
    sizes of up to `SAMPLE` of them, spread over all; without images, those of other files.

    Args:
        dataset: Of a config: `data_root`, `ann_file`, `data_prefix` or `split`.

    Returns:
        16 hexadecimal digits; None where the settings name no file or folder that exists.
    """
    root = Path(dataset.get("data_root") or "")
    annotations = root / str(dataset.get("ann_file") or "")
    if annotations.is_file():
        return sha256_of(annotations)[:DIGITS]
    digest, is_empty = hashlib.sha256(), True
    for folder in dict.fromkeys(_prefixes(dataset).values()):
        if folder == Path() or not folder.is_dir():
            continue
        listed = list(_list(str(folder), ""))
        if any(is_image(name) for _, names in listed for name in names):
            listed = [(inner, list(filter(is_image, names))) for inner, names in listed]
        count = sum(len(names) for _, names in listed)
        is_empty = is_empty and not count
        step, seen = max(-(-count // SAMPLE), 1), 0
        for inner, names in listed:
            digest.update("\n".join(["", inner, *names]).encode(errors="surrogateescape"))
            sampled = names[-seen % step :: step]
            sizes = [os.path.getsize(os.path.join(folder, inner, name)) for name in sampled]
            digest.update(repr(sizes).encode())
            seen += len(names)
    return None if is_empty else digest.hexdigest()[:DIGITS]


def image_folder(dataset: Mapping[str, Any]) -> Path | None:
    """The folder of the images of a data set; None where the settings name none."""
    folder = _prefixes(dataset).get("img_path")
    return None if folder in (None, Path()) else folder


def _prefixes(dataset: Mapping[str, Any]) -> dict[str, Path]:
    """The folders of a data set, by key of its `data_prefix`; a single one is that of images.

    A `split`, as mmpretrain's ImageNet has it, is a folder too.
    """
    root = Path(dataset.get("data_root") or "")
    found = dataset.get("data_prefix") or dataset.get("split") or ""
    prefixes = found if isinstance(found, Mapping) else dict(img_path=found)
    return {key: root / str(name or "") for key, name in prefixes.items()}


def _list(root: str, inner: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder below `root`, relative to it, with the names of its files, all sorted.

    Hidden files are left out and links to folders followed, as by the data sets of OpenMMLab.
    """
    folders: list[str] = []
    names: list[str] = []
    with os.scandir(os.path.join(root, inner)) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():  # not a link that leads nowhere
                names.append(entry.name)
    yield inner, sorted(names)
    for name in sorted(folders):
        yield from _list(root, os.path.join(inner, name))
