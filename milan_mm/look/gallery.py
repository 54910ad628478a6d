"""The images whose features a figure shows: found, drawn by class, and encoded."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from mmpretrain.registry import TRANSFORMS
from torch import Tensor
from torch.utils.data import Dataset

import milan_mm
from milan_mm.datasets.folders import SPLITS, list_images, subfolders
from milan_mm.datasets.shared import SharedTable
from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.features import centre_crop, extract_features
from milan_mm.files import replacing
from milan_mm.look.systems import Shown
from milan_mm.text import count, shorten_list

# Pooling of a system -> name in `extract_features`; without an attention pooling of its own.
FEATURE = dict(cls="cls_token", mean="avg", pool="avg")
CROP_PCT = 0.875  # as in tests on ImageNet


@dataclass(frozen=True)
class Gallery:
    """Images, and their classes where they stand in folders of classes.

    Attributes:
        root: Folder that the images are in.
        names: N files inside it.
        classes: Names of the classes; none without labels.
        labels: (N,) int64, or empty.
    """

    root: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """File of an image."""
        return self.root / self.names[index]

    def subset(self, ids: np.ndarray) -> "Gallery":
        """Some of the images; the classes stay."""
        names = tuple(self.names[i] for i in ids)
        return replace(self, names=names, labels=self.labels[ids] if self.classes else self.labels)


def find_gallery(data: str | Path, split: str, needs_labels: bool) -> Gallery:
    """The images of a folder.

    Args:
        data: Folder with train/ and val/, or with a folder per class, or with images.
        split: 'train' or 'val', where there are such folders.
        needs_labels: Refuse images that do not stand in a folder per class.

    Raises:
        MissingFileError, UserError: When there are no images, no labels, or the other split only.
    """
    root = Path(data)
    if not root.is_dir():
        raise MissingFileError(f"data folder '{root}' does not exist")
    parts = {s: [root / n for n in names if (root / n).is_dir()] for s, names in SPLITS.items()}
    # with folders inside, or else it is a class, for which 'train' is a good name
    others = [s for s, found in parts.items() if any(map(subfolders, found))]
    if others and not parts[split]:
        raise UserError(
            f"'{root}' has no folder {' or '.join(SPLITS[split])}, only "
            f"{shorten_list(subfolders(root))}: pass --split {others[0]}, or --data with the "
            "folder of the images"
        )
    root = parts[split][0] if parts[split] else root
    names = list_images(root)
    if not names:
        raise UserError(f"folder '{root}' has no images")
    folders = [name.partition("/")[0] if "/" in name else "" for name in names]
    classes = [name for name in subfolders(root) if name in set(folders)]
    if "" in folders or len(classes) < 2:
        if needs_labels:
            loose = folders.count("")
            raise UserError(
                f"'{root}' has no labels ({count(len(classes), 'class folder')}, "
                f"{count(loose, 'image')} outside of them): give --data a folder with CLASS/*, or "
                "train/CLASS/*, of 2 or more classes"
            )
        return Gallery(root, tuple(names), (), np.empty(0, np.int64))
    numbers = {name: i for i, name in enumerate(classes)}
    labels = np.array([numbers[folder] for folder in folders])
    return Gallery(root, tuple(names), tuple(classes), labels)


def draw_classes(gallery: Gallery, number: int, per_class: int, seed: int) -> Gallery:
    """Images of some random classes.

    Args:
        number: Classes; all where there are fewer. per_class: Images of each, at most.
        seed: Of both draws.
    """
    rng = np.random.default_rng(seed)
    total = len(gallery.classes)
    chosen = np.sort(rng.choice(total, min(number, total), replace=False))
    ids = []
    for label in chosen:
        (of_class,) = np.nonzero(gallery.labels == label)
        ids.append(np.sort(rng.choice(of_class, min(per_class, len(of_class)), replace=False)))
    picked = gallery.subset(np.concatenate(ids))
    classes = tuple(gallery.classes[label] for label in chosen)
    return replace(picked, classes=classes, labels=np.searchsorted(chosen, picked.labels))


def encode_gallery(
    shown: Sequence[Shown],
    gallery: Gallery,
    sizes: Sequence[int],
    cache: Path,
    workers: int | None = None,
) -> tuple[list[Tensor], Gallery]:
    """The feature of each image that a system's own classification would take.

    Features are kept in a folder, and taken from there the next time. Unreadable images are left
    out, and counted on stderr.

    Args:
        sizes: Sides in pixels of the images that each system sees.
        cache: The folder.
        workers: Processes that read images, see `extract_features`.

    Returns:
        (N, D) float32 of length 1 for each system, and the N images that could be read.

    Raises:
        UserError: When no image can be read.
    """
    files = _state(gallery)
    found = [
        _encode(system, gallery, files, size, cache, workers)
        for system, size in zip(shown, sizes, strict=True)
    ]
    # the rows of unreadable images are NaN throughout
    is_read = torch.stack([rows[:, 0].isfinite() for rows in found]).all(dim=0)
    if is_read.all():
        return found, gallery
    if not is_read.any():
        raise UserError(f"none of {len(gallery)} images in '{gallery.root}' can be read")
    (failed,) = (~is_read).nonzero(as_tuple=True)
    print(
        f"left out {len(failed)} of {len(gallery)} images that cannot be read, "
        f"first '{gallery.path(int(failed[0]))}'",
        file=sys.stderr,
    )
    return [rows[is_read] for rows in found], gallery.subset(is_read.nonzero()[:, 0].numpy())


def _encode(
    system: Shown, gallery: Gallery, files: str, img_size: int, cache: Path, workers: int | None
) -> Tensor:
    """(N, D) float32, NaN in the rows of unreadable images."""
    feature = FEATURE[system.encoder.pooling]
    key = _key(system, files, img_size, feature)
    file = cache / f"{key}.npz"
    if (kept := _read_rows(file)) is not None:
        print(f"{system.name}: {count(len(gallery), 'feature')} from {file}", file=sys.stderr)
        return torch.from_numpy(kept)
    images = _Images(gallery, img_size)
    features = extract_features(
        {system.name: system.vit},
        images,
        [feature],
        stats=system.encoder.stats,
        num_workers=workers,
        title=system.name,
    )[system.name, feature]
    rows = features.numpy()
    rows[images.failed.numpy()[:, 0] > 0] = np.nan
    with replacing(file, durable=False) as partial, partial.open("wb") as target:
        np.savez(target, rows=rows)  # a zip archive, which has a checksum
    return torch.from_numpy(rows)  # without a copy: it may be all of ImageNet


def _read_rows(file: Path) -> np.ndarray | None:
    """The features in a file; None where there is none, or where it is damaged."""
    try:
        with np.load(file) as content:
            return content["rows"]
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file leads to any kind of error
        print(f"'{file}' is damaged ({error}): its features are computed again", file=sys.stderr)
        return None


def _state(gallery: Gallery) -> str:
    """A checksum that changes with the files."""
    digest = hashlib.sha256(str(gallery.root.resolve()).encode())
    for name in gallery.names:
        stat = (gallery.root / name).stat()
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns};".encode())
    return digest.hexdigest()


def _key(system: Shown, files: str, img_size: int, feature: str) -> str:
    """A name for features that depends on all that they depend on."""
    content = [
        milan_mm.__version__,
        system.sha256,
        {name: str(value) for name, value in system.encoder.options.items()},
        system.encoder.stats,
        feature,
        img_size,
        files,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class _Images(Dataset):
    """A data set of the images; it counts those that cannot be read instead of raising.

    Attributes:
        failed: (N, 1) table, 1 for unreadable images, shared with worker processes.
    """

    def __init__(self, gallery: Gallery, img_size: int) -> None:
        self.gallery, self.img_size = gallery, img_size
        steps = centre_crop(img_size, CROP_PCT)
        self.transform = Compose([TRANSFORMS.build(step) for step in steps])
        self.failed = SharedTable(len(gallery), 1)

    def __len__(self) -> int:
        return len(self.gallery)

    def __getitem__(self, index: int) -> dict:
        try:
            sample = self.transform(dict(img_path=str(self.gallery.path(index))))
            return dict(inputs=sample["inputs"])
        except UserError:
            self.failed.numpy()[index] = 1
            return dict(inputs=torch.zeros(3, self.img_size, self.img_size, dtype=torch.uint8))
