"""The images whose labels finetuning may see: the same for all arms of a seed."""

from collections.abc import Mapping, Sequence

import torch

from milan_mm.evaluation.frozen.subsets import draw

SHARES = {"1 %": 0.01, "10 %": 0.1}


def labelled_lists(images: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """Draw a share of each class, at least one image; the smaller share is part of the larger.

    Args:
        images: Names relative to the folder of the training images, by class.

    Returns:
        By share, lines of an annotation file of mmpretrain: 'name label'.
    """
    names = [name for label in sorted(images) for name in sorted(images[label])]
    labels = [i for i, label in enumerate(sorted(images)) for _ in images[label]]
    drawn = {
        share: draw(torch.tensor(labels), amount, seed).tolist() for share, amount in SHARES.items()
    }
    return {share: [f"{names[i]} {labels[i]}" for i in ids] for share, ids in drawn.items()}
