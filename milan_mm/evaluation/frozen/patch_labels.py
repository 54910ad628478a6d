"""From the label map of an image to labels of its patches."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from milan_mm.datasets.labels import IGNORED


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """The nearest pixels of a label map.

    Args:
        labels: (H, W) uint8. size: (height, width) in pixels.
    """
    small = Image.fromarray(labels.numpy()).resize(size[::-1], Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(small))


def shares_in_patches(labels: Tensor, patch_size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """Which share of a patch each class covers.

    Args:
        labels: (h * patch_size, w * patch_size) uint8 in [0, num_classes), or 255 where no label
            counts.

    Returns:
        shares: (h * w, C) float32 of the labelled pixels; 0 in a patch without any.
        is_labelled: (h * w,) bool, whether a class covers at least as much of a patch as pixels
            without label do.
    """
    patches = labels.unfold(0, patch_size, patch_size).unfold(1, patch_size, patch_size)
    patches = patches.flatten(0, 1).flatten(1).long()  # (h*w, patch_size^2)
    counts = torch.zeros(len(patches), IGNORED + 1)
    counts.scatter_add_(1, patches, torch.ones(1).expand(patches.shape))
    of_classes = counts[:, :num_classes]
    total = of_classes.sum(dim=1, keepdim=True)
    is_labelled = (of_classes.amax(dim=1) >= counts[:, IGNORED]) & (total[:, 0] > 0)
    return of_classes / total.clamp(min=1), is_labelled
