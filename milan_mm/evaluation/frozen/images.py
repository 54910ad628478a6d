"""The frozen features of an image folder by one encoder, found or computed when first asked for."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from milan_mm.evaluation.features import read_image_folder
from milan_mm.evaluation.frozen.extraction import (
    Preparation,
    frozen_loader,
    spec_of,
    stored_features,
)
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.spec import Needs
from milan_mm.evaluation.frozen.store import Store, find_store
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.recognising import read_encoder


@dataclass
class FrozenImages:
    """Gives the features of both splits; see `milan_mm.evaluation.frozen.protocol.Features`.

    Attributes:
        encoder: What was read from the weights file, with or without its tensors.
        sha256: Of the file.
        images: Folder with train/CLASS/* and val/CLASS/*.
        counts, hashes: Images, and `data_hash`, by split.
        store: Folder of all features.
        preparation: Of the images.
        needs: What is read. wanted: What is computed if that is not there, for others too.
    """

    encoder: Encoder
    sha256: str
    images: Path
    counts: dict[str, int]
    hashes: dict[str, str | None]
    store: Path
    preparation: Preparation
    needs: Needs
    wanted: Needs
    _stores: dict[str, Store] = field(default_factory=dict)
    _sets: dict[tuple[str, str], FeatureSet] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read = self.encoder
        self.load = frozen_loader(lambda: read_encoder(read.source, **read.options))

    def __call__(self, split: str, pooling: str) -> FeatureSet:
        """Those of the blocks that are needed, by one pooling.

        Args:
            split: 'train' or 'val'; both number the classes as the training images do.

        Raises:
            UserError: See `stored_features`.
        """
        if (split, pooling) not in self._sets:
            found = self._stored(split).read(pooling).of_blocks(self.needs.blocks)
            if split != "train":
                found = found.numbered_as(self("train", pooling))
            self._sets[split, pooling] = found
        return self._sets[split, pooling]

    @property
    def vit(self) -> PlainViT:
        """The encoder, frozen, on the GPU if there is one."""
        return self.load()

    def release(self) -> None:
        """Free the encoder and what is mapped: trainings come next, in processes of their own."""
        self._sets.clear()
        self._stores.clear()
        self.__post_init__()
        torch.cuda.empty_cache()

    def _stored(self, split: str) -> Store:
        if split not in self._stores:
            specs = [
                spec_of(
                    self.encoder,
                    self.sha256,
                    (self.counts[split], self.hashes[split]),
                    split,
                    self.preparation,
                    needs,
                )
                for needs in (self.needs, self.wanted)
            ]
            served = next((spec for spec in specs if find_store(self.store, spec)), specs[-1])
            self._stores[split] = stored_features(
                self.store,
                served,
                lambda: read_image_folder(
                    self.images, split, self.preparation.img_size, self.preparation.crop_pct
                ),
                self.load,
                self.preparation,
            )
        return self._stores[split]
