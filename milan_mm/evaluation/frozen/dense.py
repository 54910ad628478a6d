"""Semantic segmentation by classifying frozen patches: k nearest neighbours, logistic regression.

Source: CAPI (arXiv 2502.08769, `eval_segmentation.py` of its repository). From there: images
squeezed into a square, label maps by the nearest pixel; the patches of the last block after the
final norm, each feature standardised by mean and spread of the training patches; patches left out
that are mostly without label; k of 1, 3, 10 and 30 and both distances, or C of 1e-6 to 1e5 in eight
steps, by the mIoU of a tenth of the training images; what was chosen is fitted to all of them.

Different here:
- a patch counts with the share of each class in it for k-NN (CAPI: neighbours vote for each pixel
  of a patch by its own label), and with its commonest class for logistic regression, as in CAPI;
- the scores of patches are resized bilinearly to the label map as it is in the file, and judged
  there by mmseg's `IoUMetric` (CAPI: no resizing, a map as small as the image that the encoder
  sees). Settings are chosen on small maps, as in CAPI.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.evaluation import IoUMetric
from torch import Tensor
from torch.utils.data import Dataset

from milan_mm.datasets.labels import IGNORED
from milan_mm.errors import UserError
from milan_mm.evaluation.features import find_device
from milan_mm.evaluation.frozen.bank import Bank
from milan_mm.evaluation.frozen.dense_features import (
    PatchEncoder,
    Patches,
    Standardiser,
    label_maps,
    patches_of,
)
from milan_mm.evaluation.frozen.intervals import statistic_interval
from milan_mm.evaluation.frozen.linear_grid import HELD_OUT
from milan_mm.evaluation.frozen.logistic import LogisticRegression
from milan_mm.evaluation.frozen.patch_voting import METRICS, patch_votes
from milan_mm.evaluation.frozen.rows import Rows

_IMAGES = 32  # that are judged at a time
# Scores (P, C) of standardised patches (P, D).
Classify = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DenseSettings:
    """How patches are classified.

    Attributes:
        classifier: 'knn' or 'logistic'.
        ks, metrics: Neighbours and distances to choose from, for k-NN.
        cs: Inverse penalties to choose from, for logistic regression.
        img_size: Side of the squeezed image in pixels.
    """

    classifier: str
    img_size: int
    ks: tuple[int, ...] = (1, 3, 10, 30)
    metrics: tuple[str, ...] = METRICS
    cs: tuple[float, ...] = tuple(float(f"{c:.6g}") for c in 10 ** np.linspace(-6, 5, 8))


@dataclass
class Areas:
    """Pixels by image and class, of which mIoU is made.

    Attributes:
        overlap, union, predicted, labelled: One (C,) tensor per image.
    """

    overlap: list[Tensor] = field(default_factory=list)
    union: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    labelled: list[Tensor] = field(default_factory=list)

    def add(self, prediction: Tensor, labels: Tensor, num_classes: int) -> None:
        """Count an image, given its predicted classes and labels, both (H, W)."""
        areas = IoUMetric.intersect_and_union(
            prediction.long(), labels.long().to(prediction.device), num_classes, IGNORED
        )
        kinds = (self.overlap, self.union, self.predicted, self.labelled)
        for found, area in zip(kinds, areas, strict=True):
            found.append(area.cpu())

    def judge(self, scores: Tensor, maps: Sequence[Tensor]) -> None:
        """Count some images.

        Args:
            scores: (B * L, C) of the patches of B squares. maps: B label maps.
        """
        for each, labels in zip(scores.chunk(len(maps)), maps, strict=True):
            self.add(_predict(each, labels.shape), labels, scores.shape[1])

    def miou(self) -> float:
        """mIoU in %, as mmseg's `IoUMetric` gives it; NaN if no pixel has a label."""
        totals = [
            torch.stack(kind).sum(dim=0)
            for kind in (self.overlap, self.union, self.predicted, self.labelled)
        ]
        return 100 * float(np.nanmean(IoUMetric.total_area_to_metrics(*totals)["IoU"]))

    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval, by resampling images; None of images that do not differ.

        A class that no image of a resample shows keeps its IoU of all images: left out, or counted
        as 0 for what was taken for it, rare classes would shift all resamples to one side of mIoU.
        """
        overlap, union, labelled = (
            torch.stack(kind).numpy() for kind in (self.overlap, self.union, self.labelled)
        )
        with np.errstate(invalid="ignore"):
            of_all = overlap.sum(axis=0) / union.sum(axis=0)  # NaN of a class that is nowhere

        def miou(times: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                ious = (times @ overlap) / (times @ union)  # (R, C)
            return 100 * np.nanmean(np.where(times @ labelled > 0, ious, of_all), axis=1)

        return statistic_interval(miou, len(overlap))


@dataclass(frozen=True)
class Segmented:
    """What a protocol found.

    Attributes:
        settings: Chosen, by name. miou: Of them on the images held out, in %.
        areas: Of the test images.
    """

    settings: dict[str, Any]
    miou: float
    areas: Areas


def segment(
    encoder: PatchEncoder,
    train: Dataset,
    test: Dataset,
    num_classes: int,
    settings: DenseSettings,
    seed: int = 0,
) -> Segmented:
    """Classify the patches of the test images by those of the training images.

    Args:
        train, test: See `read_pairs`.
        seed: Of the images held out.
    """
    patches = patches_of(encoder, train, num_classes, settings.img_size)
    learnt, held = hold_out_images(len(patches.features), seed)
    known = patches.bank(learnt)
    standardise = Standardiser.of(known.features, known.rows)
    standardise.apply_(patches.features)
    maps = label_maps(train, held, settings.img_size, encoder.num_workers)
    chosen, miou = choose(patches, learnt, held, maps, settings)
    classify = fit(patches, torch.cat([learnt, held]), chosen)
    areas = Areas()
    for features, labels in encoder.batches(test, "validation images"):
        areas.judge(classify(standardise(features).flatten(0, 1)), labels)
    return Segmented(chosen, miou, areas)


def hold_out_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the images to learn from, and of a tenth, at least one, that is held out."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = max(1, round(HELD_OUT * count))
    return order[held:].sort().values, order[:held].sort().values


def choose(
    patches: Patches,
    learnt: Tensor,
    held: Tensor,
    maps: Sequence[Tensor],
    settings: DenseSettings,
) -> tuple[dict[str, Any], float]:
    """The settings of the best mIoU on the images held out, and that mIoU in %.

    Args:
        learnt, held: Numbers of images. maps: Label maps of those held out, (S, S) uint8.

    Raises:
        UserError: When no patch has a label.
    """
    device = find_device()
    bank = patches.bank(learnt)
    if not len(bank):
        raise UserError("no patch of the training images is labelled: correct the label maps")
    parts = [(held[i : i + _IMAGES], maps[i : i + _IMAGES]) for i in range(0, len(held), _IMAGES)]
    candidates: list[dict[str, Any]] = []
    found: list[Areas] = []
    if settings.classifier == "knn":
        bank = bank.on(device)
        ks = [k for k in settings.ks if k <= len(bank)] or [len(bank)]
        for metric in settings.metrics:
            areas = {k: Areas() for k in ks}
            for ids, labels in parts:
                features = patches.features[ids].to(device)
                votes = patch_votes(features.flatten(0, 1), bank, ks, metric)
                for k in ks:
                    areas[k].judge(votes[k], labels)
            candidates += [dict(k=k, metric=metric) for k in ks]
            found += areas.values()
    else:
        regression = _regression(bank)
        linear = None
        for c in settings.cs:
            linear = regression.fit(c, linear)
            areas_of_c = Areas()
            for ids, labels in parts:
                features = patches.features[ids].to(device).float()
                areas_of_c.judge(linear.scores(features.flatten(0, 1)), labels)
            candidates.append(dict(C=c))
            found.append(areas_of_c)
    values = [areas.miou() for areas in found]
    best = int(np.nanargmax(values)) if not np.isnan(values).all() else 0  # of equal ones, first
    return candidates[best], values[best]


def fit(patches: Patches, ids: Tensor, chosen: dict[str, Any]) -> Classify:
    """A classifier of standardised patches, from those of some images."""
    device, bank = find_device(), patches.bank(ids)
    if "C" in chosen:
        linear = _regression(bank).fit(chosen["C"])
        return lambda tokens: linear.scores(tokens.to(device).float())
    placed, k, metric = bank.on(device), chosen["k"], chosen["metric"]
    return lambda tokens: patch_votes(tokens.to(device), placed, [k], metric)[k]


def _regression(bank: Bank) -> LogisticRegression:
    """Of the commonest class of each patch."""
    rows = Rows(bank.features, bank.shares.argmax(dim=1), bank.rows, torch.float64)
    return LogisticRegression(rows, bank.shares.shape[1])


def _predict(scores: Tensor, size: Sequence[int]) -> Tensor:
    """(L, C) scores of the patches of a square to (H, W) classes."""
    side = round(len(scores) ** 0.5)
    grid = scores.T.unflatten(1, (side, side))[None]  # (1, C, h, w)
    return F.interpolate(grid, tuple(size), mode="bilinear", align_corners=False)[0].argmax(dim=0)
