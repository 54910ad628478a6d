"""Linear and attentive probes over a grid of settings, as protocols of `tools/evaluate.py`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

import torch

from milan_mm.errors import UserError
from milan_mm.evaluation.features import read_image_folder
from milan_mm.evaluation.frozen.attentive import (
    AttentiveSettings,
    attentive_grid,
    heads_of_probe,
)
from milan_mm.evaluation.frozen.extraction import TITLES
from milan_mm.evaluation.frozen.linear_grid import (
    HELD_OUT,
    OWN,
    POOLINGS,
    GridSettings,
    linear_grid,
)
from milan_mm.evaluation.frozen.measured import Measured, top_1_and_5
from milan_mm.evaluation.frozen.patch_source import PatchSource
from milan_mm.evaluation.frozen.protocol import Features, FrozenProtocol, TrainImages
from milan_mm.evaluation.frozen.spec import Needs
from milan_mm.evaluation.knn import val_labels
from milan_mm.evaluation.recipes import Shape

SHORT_UPDATES = 4  # of --protocol short
Settings = TypeVar("Settings", GridSettings, AttentiveSettings)


@dataclass(frozen=True)
class Grid(FrozenProtocol, Generic[Settings]):
    """What linear and attentive probes share.

    Attributes:
        grid: All that is tried.
        seed: Of the start and the order.
    """

    grid: Settings
    seed: int = field(default=0, kw_only=True)

    @property
    def settings(self) -> dict[str, Any]:
        return dict(grid=asdict(self.grid), held=HELD_OUT)

    @property
    def num_steps(self) -> int:
        return 100

    def seeded(self, seed: int) -> Self:
        return replace(self, seed=seed)

    def check(self, train: TrainImages) -> None:
        counts = train.counts()
        if (alone := (counts == 1).nonzero()).numel():
            raise UserError(
                f"class '{train.classes[int(alone[0])]}' of {train.folder} has 1 image, and "
                "settings are chosen on images held out of each class, which needs 2: add images, "
                "or take --tasks knn, which chooses nothing"
            )


@dataclass(frozen=True)
class LinearGrid(Grid[GridSettings]):
    """Linear probes of rates, weight decays, blocks and poolings; see `linear_grid`."""

    grid: GridSettings = field(default_factory=GridSettings)

    def needs(self, shape: Shape) -> Needs:
        first = max(0, shape.num_layers - max(self.grid.blocks))
        poolings = POOLINGS[:2] if shape.with_cls_token else POOLINGS[1:2]
        return Needs(tuple(range(first, shape.num_layers)), poolings + _own(shape))

    def feature(self, shape: Shape) -> str:
        return "+".join((super().feature(shape), *_own(shape)))

    def fitted(self, train: TrainImages) -> Self:
        return replace(self, grid=replace(self.grid, updates=SHORT_UPDATES))

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        needs = self.needs(shape)
        train = {name: features("train", name) for name in needs.poolings}
        test = {name: features("val", name) for name in needs.poolings}
        first, judged = train[needs.poolings[0]], test[needs.poolings[0]]
        found = linear_grid(
            {name: each.features for name, each in train.items()},
            first.labels,
            len(first.classes),
            {name: each.features for name, each in test.items()},
            self._fitting(shape),
            self.seed,
            step,
        )
        return top_1_and_5(found.predictions, judged.labels, len(first.classes), found.settings)

    def _fitting(self, shape: Shape) -> GridSettings:
        """Without what a shallow encoder, or one without a class token, does not have."""
        blocks = sorted({min(count, shape.num_layers) for count in self.grid.blocks})
        poolings = self.grid.poolings if shape.with_cls_token else POOLINGS[1:2]
        return replace(self.grid, blocks=tuple(blocks), poolings=poolings + _own(shape))


@dataclass(frozen=True)
class Attentive(Grid[AttentiveSettings]):
    """Attentive probes of rates and weight decays; see `attentive_grid`."""

    grid: AttentiveSettings = field(default_factory=AttentiveSettings)

    def needs(self, shape: Shape) -> Needs:
        """Nothing: pooled features are not enough."""
        return Needs((), ())

    def fitted(self, train: TrainImages) -> Self:
        return replace(self, grid=replace(self.grid, updates=SHORT_UPDATES))

    def measure(
        self, features: Features, shape: Shape, step: Callable[[], object]
    ) -> Mapping[str, Measured]:
        sources = {split: _patches(features, split) for split in ("train", "val")}
        train, val = (source.dataset for source in sources.values())
        num_classes = len(train.CLASSES)
        found = attentive_grid(
            sources["train"],
            torch.as_tensor(train.get_gt_labels()),
            num_classes,
            sources["val"],
            len(val),
            shape.embed_dims,
            heads_of_probe(shape.embed_dims, shape.num_heads),
            self.grid,
            self.seed,
            step,
        )
        answers = val_labels(train, val)
        return top_1_and_5(found.predictions, answers, num_classes, found.settings)


def _own(shape: Shape) -> tuple[str, ...]:
    return (OWN,) if shape.with_pool else ()


def _patches(features: Features, split: str) -> PatchSource:
    """The patch tokens of a split."""
    how = features.preparation
    return PatchSource(
        features.vit,
        read_image_folder(features.images, split, how.img_size, how.crop_pct),
        how.stats or features.encoder.stats,
        how.amp,
        how.batch_size,
        how.num_workers,
        TITLES[split],
    )
