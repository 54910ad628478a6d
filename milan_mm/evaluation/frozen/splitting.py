"""What a protocol chooses by: part of the training images, never the test."""

import torch
from torch import Tensor

from milan_mm.errors import UserError

SHARE = 0.1  # of the images of each class


def hold_out(
    labels: Tensor, classes: tuple[str, ...], seed: int, share: float = SHARE
) -> tuple[Tensor, Tensor]:
    """Split the training images into those to learn from and those to choose by.

    Each class gives the same share, and at least one image, so that no class is without either.

    Args:
        labels: (N,) int64 in [0, len(classes)).
        classes: Their names.
        seed: Of the draw.

    Returns:
        Numbers of the images to learn from, and of those held out, both int64 and rising.

    Raises:
        UserError: When a class has one image, which cannot be split.
    """
    check_splittable(labels, classes)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]  # by class, drawn within each
    counts = labels.bincount(minlength=len(classes))
    held = (counts * share).round().long().clamp(min=1).minimum(counts - 1).clamp(min=0)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(labels)) - starts[labels[order]]
    is_held = rank < held[labels[order]]
    return order[~is_held].sort().values, order[is_held].sort().values


def check_splittable(labels: Tensor, classes: tuple[str, ...]) -> None:
    """Look for a class that cannot be split; one without any image is not learnt at all.

    Raises:
        UserError: Naming it.
    """
    counts = labels.bincount(minlength=len(classes))
    if (alone := (counts == 1).nonzero()).numel():
        raise UserError(
            f"class '{classes[int(alone[0])]}' has 1 training image, and hyperparameters are "
            "chosen on images held out of each class, which needs 2: add images, or evaluate by "
            "--tasks knn, which chooses nothing"
        )
