"""Judge an encoder by the nearest neighbours of its images: a first number without training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from mmpretrain.datasets import CustomDataset
from torch import Tensor

from milan_mm.datasets.identity import data_hash
from milan_mm.errors import UserError
from milan_mm.evaluation.encoders import heads_of, load_frozen_encoder, random_encoder_like
from milan_mm.evaluation.features import (
    check_feature,
    extract_features,
    find_device,
    photo_notes,
    read_image_folder,
)
from milan_mm.evaluation.frozen.extraction import (
    TITLES,
    Preparation,
    spec_of,
    stored_features,
)
from milan_mm.evaluation.frozen.measured import Measured, top_1_and_5
from milan_mm.evaluation.frozen.spec import Needs
from milan_mm.evaluation.voting import neighbours, votes
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.reading import file_sha256, tensors_sha256


@dataclass(frozen=True)
class KnnSettings:
    """How the neighbours vote, and by which features they are found.

    Attributes:
        ks: Neighbours that vote, one number or several.
        temperature: Similarity s has the weight exp(s / temperature).
        features: Of `FEATURES`; each gives numbers of its own.
        img_size: Side of the images in pixels; None takes that of the pretraining.
        crop_pct: Share of the short side that the centre crop keeps.
        stats: See `stats_text`; None takes those of the pretraining.
        amp: Compute features in bfloat16.
        batch_size, num_workers: Of the feature extraction, see `extract_features`.
        store: Folder in which features are kept and found again; None keeps none.
    """

    ks: tuple[int, ...] = (20,)
    temperature: float = 0.07
    features: tuple[str, ...] = ("cls_token",)
    img_size: int | None = None
    crop_pct: float = 0.875
    stats: str | None = None
    amp: bool = False
    batch_size: int = 64
    num_workers: int | None = None
    store: str | Path | None = None

    @property
    def k(self) -> int:
        """The most neighbours that vote."""
        return max(self.ks)


@dataclass(frozen=True)
class Knn:
    """Everything that a vote needs, read and checked; nothing is computed yet.

    Attributes:
        encoder: What was read from the weights file.
        vits: By name: 'weights', and 'random' for an untrained encoder of the same shape.
        train, val: The images that vote, and those that are voted on.
        settings: With the size and the statistics that are used.
        loaded: Report on what was loaded from the weights file.
    """

    encoder: Encoder
    vits: Mapping[str, PlainViT]
    train: CustomDataset
    val: CustomDataset
    settings: KnnSettings
    loaded: str

    @classmethod
    def of(
        cls, encoder: Encoder, images: str | Path, settings: KnnSettings, with_random: bool = False
    ) -> "Knn":
        """Load the encoder, and look for the images.

        Args:
            images: Folder with train/CLASS/* and val/CLASS/*.
            with_random: Also judge an untrained encoder.

        Raises:
            MissingFileError, UserError: For weights, images or settings that cannot be used.
        """
        vit, report = load_frozen_encoder(encoder)
        parts = vit.with_cls_token, vit.options.with_pool
        for feature in settings.features:
            check_feature(feature, "--feature", *parts, encoder.source)
        vits = dict(weights=vit)
        if with_random:
            torch.manual_seed(0)
            vits["random"] = random_encoder_like(vit)
        img_size = _image_size(settings.img_size, vit)
        settings = replace(settings, img_size=img_size, stats=settings.stats or encoder.stats)
        train, val = read_images(images, img_size, settings)
        return cls(encoder, vits, train, val, settings, str(report))

    @property
    def description(self) -> str:
        """What is judged, on what."""
        vit, val, settings = self.vits["weights"], self.val, self.settings
        norm = "final norm" if vit.options.final_norm else "no final norm"
        lines = (
            f"{self.loaded}\n{self.encoder.source}: {vit.num_layers} blocks of width "
            f"{vit.embed_dims}, {heads_of(vit)} heads, patches of {vit.patch_size} px, {norm}; "
            f"taken for {self.encoder.system}, image statistics '{settings.stats}'\n"
            f"{val.data_root}: {len(self.train)} training and {len(val)} validation images of "
            f"{len(self.train.CLASSES)} classes, at {settings.img_size} pixels"
        )
        return "\n".join([lines, *photo_notes(val.data_root)])

    def measured(self) -> dict[tuple[str, str, int], dict[str, Measured]]:
        """Find or compute the features of all images, and let the neighbours vote.

        Returns:
            Top-1 and top-5 in %, by encoder, feature and k; top-5 of fewer than 5 classes, which
            would always be 100, is None.
        """
        train, val = (
            self._features(*split) for split in (("train", self.train), ("val", self.val))
        )
        device = find_device()
        labels, classes = val_labels(self.train, self.val), len(self.train.CLASSES)
        train_labels = torch.as_tensor(self.train.get_gt_labels())
        found = {}
        for name, feature in val:
            near = neighbours(
                train[name, feature],
                train_labels,
                val[name, feature].to(device),
                self.settings.k,
                normalise=self.settings.store is not None,  # those of `extract_features` are
            )
            by_k = votes(*near, classes, self.settings.ks, self.settings.temperature)
            for k, predictions in by_k.items():
                # as DINO counts: fewer neighbours name fewer classes, others come in any order
                found[name, feature, k] = top_1_and_5(predictions[:, :k].cpu(), labels, classes)
        return found

    def _features(self, split: str, dataset: CustomDataset) -> dict[tuple[str, str], Tensor]:
        """(N, D) by encoder and feature."""
        settings = self.settings
        stats = settings.stats or self.encoder.stats
        if settings.store is not None:
            return self._stored(split, dataset, Path(settings.store))
        return extract_features(
            self.vits,
            dataset,
            settings.features,
            stats=stats,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            amp=settings.amp,
            title=TITLES[split],
        )

    def _stored(
        self, split: str, dataset: CustomDataset, root: Path
    ) -> dict[tuple[str, str], Tensor]:
        settings, found = self.settings, {}
        assert settings.img_size
        preparation = Preparation(
            settings.img_size,
            settings.crop_pct,
            settings.stats,
            settings.amp,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
        )
        images = len(dataset), data_hash(dict(data_root=dataset.img_prefix))
        for name, vit in self.vits.items():
            sha256, is_own = file_sha256(self.encoder.source), name == "weights"
            if not is_own:
                sha256 = tensors_sha256(vit.state_dict())
            needs = Needs((vit.num_layers - 1,), settings.features)
            spec = spec_of(self.encoder, sha256, images, split, preparation, needs)
            if not is_own:
                spec = replace(spec, weights="random")
            store = stored_features(
                root, spec, lambda: dataset, partial(vit.to, find_device()), preparation
            )
            for feature in settings.features:
                found[name, feature] = store.read(feature).of_blocks(needs.blocks).last
        return found


def _image_size(wanted: int | None, vit: PlainViT) -> int:
    size = wanted or vit.grid_size[0] * vit.patch_size
    if size % vit.patch_size:
        raise UserError(
            f"--img-size {size} is not a multiple of the patch size {vit.patch_size}: use "
            f"{max(1, round(size / vit.patch_size)) * vit.patch_size}"
        )
    return size


def val_labels(train: CustomDataset, val: CustomDataset) -> Tensor:
    """(N,) int64 labels of the validation images, as the training images number the classes.

    By name, since val/ may have fewer classes.
    """
    ids = torch.tensor([train.CLASSES.index(name) for name in val.CLASSES])
    return ids[torch.as_tensor(val.get_gt_labels())]


def read_images(
    root: str | Path, img_size: int, settings: KnnSettings
) -> tuple[CustomDataset, CustomDataset]:
    """The images that vote, and those that are voted on, of ROOT/train and ROOT/val.

    Raises:
        MissingFileError, UserError: When they cannot be used.
    """
    train, val = (
        read_image_folder(root, part, img_size, settings.crop_pct) for part in ("train", "val")
    )
    check_same_classes(train, val)
    if settings.k > len(train):
        raise UserError(f"--k {settings.k} exceeds the {len(train)} images in {train.img_prefix}")
    return train, val


def check_same_classes(train: CustomDataset, val: CustomDataset) -> None:
    """Check that every class of the validation images has training images.

    Raises:
        UserError: Names one that has none.
    """
    known = set(train.CLASSES)
    if unknown := [name for name in val.CLASSES if name not in known]:
        raise UserError(
            f"{len(unknown)} classes of {val.img_prefix} are not in {train.img_prefix}, e.g. "
            f"'{unknown[0]}': no neighbour could vote for them"
        )
