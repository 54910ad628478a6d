"""Frozen features of labelled images, as the protocols read them: mapped from the disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureSet:
    """The features of a split by one pooling.

    Attributes:
        features: (N, blocks, D) float32 or float16, memory-mapped and not to be changed: take rows
            and turn those into float32, since a copy of all may not fit into memory.
        labels: (N,) int64 in [0, len(classes)).
        classes: Their names.
        names: Of the N images, relative to the folder of the split.
        blocks: Numbers of the blocks, from 0. pooling: Of `FEATURES`.
    """

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    names: Sequence[str]
    blocks: tuple[int, ...]
    pooling: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def last(self) -> Tensor:
        """(N, D), those of the last block, mapped."""
        return self.features[:, -1]

    def of_blocks(self, blocks: Sequence[int]) -> "FeatureSet":
        """Those of some blocks; neighbouring ones are a view, others a copy."""
        places = [self.blocks.index(block) for block in blocks]
        first, stop = places[0], places[-1] + 1
        chosen = (
            self.features[:, first:stop]
            if places == list(range(first, stop))
            else self.features[:, places]
        )
        return replace(self, features=chosen, blocks=tuple(blocks))

    def numbered_as(self, train: "FeatureSet") -> "FeatureSet":
        """With labels as the training images number the classes; all of its classes are there."""
        ids = torch.tensor([train.classes.index(name) for name in self.classes])
        return replace(self, labels=ids[self.labels], classes=train.classes)
