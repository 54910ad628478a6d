"""Patches of images with label maps: features of a frozen encoder, and what the patches show."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from milan_mm.evaluation.frozen.bank import Bank
from milan_mm.evaluation.frozen.patch_labels import resize_labels, shares_in_patches
from milan_mm.evaluation.frozen.patch_source import patch_tokens
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.statistics import byte_stats

_ROWS = 65536  # patches that are standardised at a time


@dataclass(frozen=True)
class PatchEncoder:
    """An encoder of patches, and how its images are prepared.

    Attributes:
        vit: Frozen, with out_type='raw', on the device.
        stats: See `stats_text`. amp: Compute in bfloat16.
        batch: Images at a time. num_workers: Processes that read images.
    """

    vit: PlainViT
    stats: str
    amp: bool = False
    batch: int = 32
    num_workers: int = 2

    def __call__(self, imgs: Tensor) -> Tensor:
        """Features of patches: (B, L, D) float16 on the device, after the final norm.

        Args:
            imgs: (B, 3, H, W) uint8 BGR.
        """
        device = next(self.vit.parameters()).device
        stats = (torch.tensor(v, device=device).view(3, 1, 1) for v in byte_stats(self.stats))
        mean, std = stats
        imgs = (imgs.to(device).flip(1).float() - mean) / std
        return patch_tokens(self.vit, imgs, self.amp)

    def batches(self, dataset: Dataset, title: str) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Features (B, L, D) float16 and label maps, each (H, W) uint8 of its own size."""
        loader = DataLoader(
            dataset, self.batch, num_workers=self.num_workers, collate_fn=_images_and_labels
        )
        for imgs, labels in tqdm(loader, desc=title, unit=" batches", disable=None):
            yield self(imgs), labels


@dataclass(frozen=True)
class Patches:
    """All patches of N images.

    Attributes:
        features: (N, L, D) float16. shares: (N, L, C) float16, see `shares_in_patches`.
        is_labelled: (N, L) bool.
    """

    features: Tensor
    shares: Tensor
    is_labelled: Tensor

    def bank(self, ids: Tensor) -> "Bank":
        """The labelled patches of some images."""
        is_chosen = torch.zeros(len(self.features), 1, dtype=torch.bool)
        is_chosen[ids] = True
        rows = (self.is_labelled & is_chosen).flatten().nonzero()[:, 0]
        return Bank(self.features.flatten(0, 1), self.shares.flatten(0, 1), rows)


def read_pairs(dataset: dict[str, Any], num_classes: int, img_size: int) -> Dataset:
    """Images squeezed into a square, and their label maps as they are.

    Args:
        dataset: Config of a data set of mmseg; its pipeline is replaced.
        img_size: Side of the square in pixels.
    """
    pipeline = [
        dict(type="milan_mm.LoadImage"),
        dict(
            type="mmseg.Resize",
            scale=(img_size, img_size),
            keep_ratio=False,
            backend="pillow",
            interpolation="bicubic",
        ),
        dict(type="milan_mm.LoadLabels", num_classes=num_classes),  # of the map as it is
        dict(type="mmseg.PackSegInputs"),
    ]
    with DefaultScope.overwrite_default_scope("mmseg"):
        return DATASETS.build(
            dict(dataset, pipeline=pipeline, test_mode=True, serialize_data=False)
        )


def patches_of(encoder: PatchEncoder, dataset: Dataset, num_classes: int, img_size: int) -> Patches:
    """Encode the training images.

    Args:
        dataset: See `read_pairs`.
    """
    grid = img_size // encoder.vit.patch_size
    count, num_patches = len(dataset), grid * grid  # type: ignore[arg-type]
    features = torch.empty(count, num_patches, encoder.vit.embed_dims, dtype=torch.float16)
    shares = torch.empty(count, num_patches, num_classes, dtype=torch.float16)
    is_labelled = torch.empty(count, num_patches, dtype=torch.bool)
    start = 0
    for found, maps in encoder.batches(dataset, "training images"):
        features[start : start + len(found)] = found.cpu()
        for i, labels in enumerate(maps, start):
            small = resize_labels(labels, (img_size, img_size))
            shares[i], is_labelled[i] = shares_in_patches(
                small, encoder.vit.patch_size, num_classes
            )
        start += len(found)
    return Patches(features, shares, is_labelled)


def label_maps(dataset: Dataset, ids: Tensor, img_size: int, num_workers: int) -> list[Tensor]:
    """Label maps of some images in the size that the encoder sees, each (S, S) uint8."""
    loader = DataLoader(
        Subset(dataset, ids.tolist()), 1, num_workers=num_workers, collate_fn=_images_and_labels
    )
    return [resize_labels(labels, (img_size, img_size)) for _, (labels,) in loader]


@dataclass(frozen=True)
class Standardiser:
    """Takes mean and spread of some patches from all; scikit-learn's `StandardScaler`.

    Attributes:
        mean, std: (D,) float32; a feature that does not vary is not divided.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor, rows: Tensor) -> "Standardiser":
        """That of some rows (M,) int64 of (P, D) patches."""
        total = torch.zeros(2, features.shape[1], dtype=torch.float64)
        for part in rows.split(_ROWS):
            total[0] += features[part].double().sum(dim=0)
        mean = total[0] / len(rows)
        for part in rows.split(_ROWS):
            total[1] += (features[part].double() - mean).square().sum(dim=0)
        std = (total[1] / len(rows)).sqrt()
        return cls(mean.float(), torch.where(std > 0, std, 1.0).float())

    def __call__(self, features: Tensor) -> Tensor:
        """(..., D) float16, on any device."""
        mean, std = (t.to(features.device) for t in (self.mean, self.std))
        return ((features.float() - mean) / std).half()

    def apply_(self, features: Tensor) -> None:
        """The same in place, a part at a time, of (N, L, D)."""
        for rows in features.flatten(0, 1).split(_ROWS):
            rows.copy_(self(rows))


def _images_and_labels(samples: list[dict]) -> tuple[Tensor, list[Tensor]]:
    imgs = torch.stack([sample["inputs"] for sample in samples])  # (B, 3, S, S) uint8
    maps = [sample["data_samples"].gt_sem_seg.data[0] for sample in samples]
    return imgs, [labels.to(torch.uint8) for labels in maps]
