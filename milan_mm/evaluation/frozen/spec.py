"""What the features of a set of images depend on, and so what must agree for them to be reused."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch

from milan_mm import __version__
from milan_mm.errors import UserError
from milan_mm.evaluation.features import FEATURES, check_feature
from milan_mm.evaluation.recipes import Shape
from milan_mm.run.records.canonical import settings_hash

DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class Needs:
    """What a protocol reads of an encoder.

    Attributes:
        blocks: Numbers of blocks, from 0 and rising.
        poolings: Of `FEATURES`, see `milan_mm.evaluation.features.pool`.
    """

    blocks: tuple[int, ...]
    poolings: tuple[str, ...]

    def __or__(self, other: "Needs") -> "Needs":
        """Those of both."""
        return Needs(
            tuple(sorted({*self.blocks, *other.blocks})),
            tuple(name for name in FEATURES if name in (*self.poolings, *other.poolings)),
        )

    def covers(self, other: "Needs") -> bool:
        """Whether everything that another needs is here."""
        return {*other.blocks} <= {*self.blocks} and {*other.poolings} <= {*self.poolings}

    def check(self, shape: Shape, encoder: str) -> None:
        """Compare with an encoder.

        Args:
            encoder: Its name, for the message.

        Raises:
            UserError: For a block or a pooling that it does not have.
        """
        if wrong := [block for block in self.blocks if not 0 <= block < shape.num_layers]:
            raise UserError(
                f"--blocks {wrong[0]}: {encoder} has blocks 0 to {shape.num_layers - 1}; -1 is the "
                "last"
            )
        for name in self.poolings:
            check_feature(name, "--pooling", shape.with_cls_token, shape.with_pool, encoder)


@dataclass(frozen=True)
class FeatureSpec:
    """One encoder on one split of a data set, and how the images are prepared.

    Attributes:
        weights: Name of the weights file; a file of another name has the same features.
        weights_sha256: Of its content.
        encoder_hash: Of the encoder's settings, and of options that choose among its tensors.
        data_hash: Of names and sizes of the images, see `milan_mm.datasets.identity`.
        num_images: Of the split.
        split: 'train' or 'val'.
        img_size: Side of the images in pixels. crop_pct: Share that the centre crop keeps.
        stats: Image statistics, see `stats_text`.
        needs: Blocks and poolings. The final norm is applied to all blocks, as DINOv2 does.
        width: Of a feature.
        precision: Of the computation, 'float32' or 'bfloat16'. dtype: Of the file, 'float32' or
            'float16'.
        package: Version of milan_mm.
    """

    weights: str
    weights_sha256: str
    encoder_hash: str
    data_hash: str | None
    num_images: int
    split: str
    img_size: int
    crop_pct: float
    stats: str
    needs: Needs
    width: int
    precision: str = "float32"
    dtype: str = "float32"
    package: str = __version__

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Self:
        """From what `facts` gives.

        Raises:
            TypeError, KeyError: For others.
        """
        facts = dict(facts)
        blocks, poolings = facts.pop("blocks"), facts.pop("poolings")
        return cls(needs=Needs(tuple(blocks), tuple(poolings)), **facts)

    @property
    def facts(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        found = asdict(self)
        needs = found.pop("needs")
        return found | {name: list(values) for name, values in needs.items()}

    def is_same(self, other: "FeatureSpec") -> bool:
        """Whether features of this are those of another; the file may have another name."""
        return replace(self, weights=other.weights) == other

    def serves(self, other: "FeatureSpec") -> bool:
        """Whether features of this are those of another, or more of them."""
        return replace(self, needs=other.needs).is_same(other) and self.needs.covers(other.needs)

    @property
    def folder(self) -> str:
        """A name that no other spec has."""
        facts = {name: value for name, value in self.facts.items() if name != "weights"}
        key = settings_hash(facts)[:12]
        return f"{self.weights_sha256[:8]}_{self.split}_{key}"

    @property
    def nbytes(self) -> int:
        """Bytes of the features on the disk."""
        values = self.num_images * len(self.needs.blocks) * len(self.needs.poolings) * self.width
        return values * DTYPES[self.dtype].itemsize


def union(needs: Iterable[Needs]) -> Needs:
    """What serves all of some protocols."""
    found = Needs((), ())
    for each in needs:
        found = found | each
    return found


def usual_pooling(shape: Shape) -> str:
    """The class token; without one the encoder's own attention pooling, or the mean of patches."""
    if shape.with_cls_token:
        return "cls_token"
    return "pool" if shape.with_pool else "avg"
