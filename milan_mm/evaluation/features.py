"""One feature vector per image of an image folder, from one or several frozen encoders."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.datasets import CustomDataset
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from milan_mm.datasets.folders import EXTENSIONS, find_class_folders, list_photos, note_unread
from milan_mm.datasets.overlap import find_overlap
from milan_mm.errors import UserError
from milan_mm.weights.statistics import byte_stats

FEATURES = ("cls_token", "avg", "pool")


def read_image_folder(root: str | Path, part: str, img_size: int, crop_pct: float) -> CustomDataset:
    """The labelled images in ROOT/PART/CLASS/*, prepared as in tests on ImageNet.

    Args:
        part: 'train' or 'val', for any of the names that its folder may have.
        img_size: Side of the images in pixels.
        crop_pct: Share of the short side that the centre crop keeps; ImageNet's 224 of 256 pixels
            are 0.875.

    Raises:
        MissingFileError: When there is no such folder.
        UserError: When a class has no training images, or none has any. A class may be without
            validation images, as in trainings.
    """
    folder = find_class_folders(root, part)
    try:
        dataset = CustomDataset(
            data_root=str(root),
            data_prefix=folder.name,
            pipeline=centre_crop(img_size, crop_pct),
            test_mode=True,
            extensions=EXTENSIONS,
        )
    except RuntimeError as error:  # of a folder without any image
        raise UserError(f"data folder '{folder}': {error}") from None
    images = np.bincount(dataset.get_gt_labels(), minlength=len(dataset.CLASSES))
    if part != "train":
        return dataset
    if empty := [name for name, count in zip(dataset.CLASSES, images, strict=True) if not count]:
        raise UserError(
            f"class '{empty[0]}' has no images in {folder} ({len(empty)} of {len(images)} classes "
            f"have none; read are {', '.join(sorted(dataset.extensions))}): remove the folder"
        )
    return dataset


def centre_crop(img_size: int, crop_pct: float) -> list[dict]:
    """Transforms of mmpretrain that prepare an image as in tests on ImageNet; see above."""
    return [
        dict(type="milan_mm.LoadImage"),
        dict(
            type="ResizeEdge",
            scale=round(img_size / crop_pct),
            edge="short",
            backend="pillow",
            interpolation="bicubic",
        ),
        dict(type="CenterCrop", crop_size=img_size),
        dict(type="PackInputs"),
    ]


def photo_notes(root: str | Path) -> list[str]:
    """What is worth knowing of a user's photos: types that are left out, photos of both splits.

    Args:
        root: Of train/CLASS/* and val/CLASS/*.

    Raises:
        MissingFileError: When there is no such folder.
        UserError: When many photos are of types that are not read.
    """
    splits = ("train", "val")
    notes = unread_notes(root, splits)
    overlap = find_overlap(*(find_class_folders(root, split) for split in splits))
    return [*notes, str(overlap)] if overlap.found else notes


def unread_notes(root: str | Path, splits: Sequence[str]) -> list[str]:
    """What is left out of some splits of a user's photos, a line for each.

    Raises:
        MissingFileError: When there is no such folder.
        UserError: When many photos are of types that are not read, or not files.
    """
    notes = []
    for folder in (find_class_folders(root, split) for split in splits):
        images, unread = list_photos(folder)
        notes += note_unread(folder, len(images), unread)
    return notes


@torch.inference_mode()
def extract_features(
    encoders: Mapping[str, Any],
    dataset: CustomDataset | Subset,
    features: Sequence[str] = ("cls_token",),
    stats: str = "imagenet",
    batch_size: int = 64,
    num_workers: int | None = None,
    amp: bool = False,
    title: str = "",
    quiet: bool = False,
) -> dict[tuple[str, str], Tensor]:
    """Run every encoder over all images; each image is read once.

    Args:
        encoders: By name; frozen, with out_type='raw', and with the widths that a `PlainViT`
            states. They are moved to the GPU if there is one.
        features: Of `FEATURES`, see `pool`; all after the final norm where the encoder has one.
        stats: See `stats_text`.
        num_workers: Processes that read images; None takes one per core, at most 8.
        amp: Compute in bfloat16.
        title: Of the progress bar. quiet: Without one.

    Returns:
        (N, D) float32 of length 1 on the CPU for each encoder and feature, in the order of the
        data set.
    """
    device = find_device()
    found = {
        (name, feature): torch.empty(len(dataset), vit.to(device).embed_dims)
        for name, vit in encoders.items()
        for feature in features
    }
    start = 0
    bar = tqdm(total=len(dataset), desc=title, unit=" images", smoothing=0.05, disable=quiet)
    with bar as progress:
        for imgs in normalised_batches(dataset, stats, batch_size, num_workers):
            stop = start + len(imgs)
            for name, vit in encoders.items():
                with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                    (tokens,) = vit(imgs)  # (B, P+L, D)
                for feature in features:
                    pooled = pool(vit, tokens.float(), feature)
                    found[name, feature][start:stop] = F.normalize(pooled, dim=1).cpu()
            progress.update(len(imgs))
            start = stop
    return found


def normalised_batches(
    dataset: CustomDataset | Subset, stats: str, batch_size: int, num_workers: int | None
) -> Iterator[Tensor]:
    """The images of a data set in order, as (B, 3, H, W) float RGB, on the GPU if there is one.

    Args:
        stats, num_workers: See `extract_features`.
    """
    device = find_device()
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in byte_stats(stats))
    if num_workers is None:
        num_workers = min(8, os.cpu_count() or 1)
    loader = DataLoader(
        dataset,
        batch_size,
        num_workers=num_workers,
        collate_fn=_stack,
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        yield (batch.to(device).flip(1).float() - mean) / std  # BGR to RGB


def pool(vit: Any, tokens: Tensor, feature: str) -> Tensor:
    """(B, P+L, D) tokens to (B, D).

    The P tokens before the patches are the class token and registers.

    Args:
        vit: The encoder, see `extract_features`.
        feature: 'cls_token', 'avg' for the mean of the patch tokens, or 'pool' for the encoder's
            own attention pooling of all tokens (SigLIP, PE).
    """
    if feature == "cls_token":
        return tokens[:, 0]
    if feature == "pool":
        return vit.attn_pool(tokens)
    return tokens[:, vit.num_prefix_tokens :].mean(dim=1)


def check_feature(
    feature: str, option: str, with_cls_token: bool, with_pool: bool, encoder: object
) -> None:
    """Compare a feature with an encoder.

    Args:
        option: That chose it. encoder: Its name. Both are for the message.

    Raises:
        UserError: When the encoder does not have what it is made of.
    """
    has = dict(cls_token=with_cls_token, avg=True, pool=with_pool)
    if not has[feature]:
        part = dict(cls_token="class token", pool="attention pooling of its own")[feature]
        remedy = " or ".join(name for name in reversed(FEATURES) if has[name])
        raise UserError(f"{encoder} has no {part}: pass {option} {remedy}")


def find_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _stack(samples: list[dict]) -> Tensor:
    return torch.stack([sample["inputs"] for sample in samples])  # (B, 3, H, W) uint8
