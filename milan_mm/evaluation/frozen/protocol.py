"""What a protocol on frozen features is, and what it is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from milan_mm.evaluation.frozen.extraction import Preparation
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.measured import Measured
from milan_mm.evaluation.frozen.spec import Needs, usual_pooling
from milan_mm.evaluation.recipes import Shape
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import Encoder


class Features(Protocol):
    """The features of both splits; `FrozenImages` finds or computes them.

    Attributes:
        encoder: What was read from the weights file. images: Folder of both splits.
        preparation: Of the images.
    """

    encoder: Encoder
    images: Path
    preparation: Preparation

    @property
    def vit(self) -> PlainViT:
        """The encoder, for protocols that need more than pooled features."""

    def __call__(self, split: str, pooling: str) -> FeatureSet:
        """Those of 'train' or 'val'; both number the classes as the training images do."""


@dataclass(frozen=True)
class TrainImages:
    """What is known of the training images before any is read.

    Attributes:
        folder: Of theirs, for messages.
        labels: (N,) int64. classes: Their names. names: Relative to the folder.
    """

    folder: str
    labels: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]

    def counts(self) -> Tensor:
        """(classes,) int64, images of each class."""
        return self.labels.bincount(minlength=len(self.classes))


class FrozenProtocol(ABC):
    """A way to judge frozen features of whole images. Its fields are what its numbers depend on."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that decides its numbers besides the features, as JSON has it; hashed."""

    @abstractmethod
    def needs(self, shape: Shape) -> Needs:
        """What it reads of an encoder."""

    def feature(self, shape: Shape) -> str:
        """What its numbers are of, for its hash."""
        return "cls_token" if shape.with_cls_token else "avg"

    @abstractmethod
    def check(self, train: TrainImages) -> None:
        """Compare with the training images, before anything runs.

        Raises:
            UserError: When they are too few for it.
        """

    def fitted(self, train: TrainImages) -> Self:
        """With what few images allow, for --protocol short; numbers left out are undefined."""
        return self

    def seeded(self, seed: int) -> Self:
        """With another seed; most draw nothing, or draw by seeds of their own."""
        return self

    @abstractmethod
    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        """Its numbers, by metric.

        Args:
            step: Called after each of `num_steps`, for a progress bar.
        """

    @property
    def num_steps(self) -> int:
        """Parts of about equal length."""
        return 1


@dataclass(frozen=True)
class PooledProtocol(FrozenProtocol):
    """One that reads a single vector of each image, of the last block.

    Attributes:
        pooling: Of `milan_mm.evaluation.features.FEATURES`; None takes `usual_pooling`.
    """

    pooling: str | None = field(default=None, kw_only=True)

    def needs(self, shape: Shape) -> Needs:
        return Needs((shape.num_layers - 1,), (self.feature(shape),))

    def feature(self, shape: Shape) -> str:
        return self.pooling or usual_pooling(shape)
