"""What a pretraining step sees: sampling probability, kept patches, loss of each patch.

As in Figure 4 of arXiv 2208.06049.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from milan_mm.visualization.figure_files import picture_of
from milan_mm.visualization.panels import Bar, Frame, Panel, panel_figure
from milan_mm.visualization.pictures import enlarge
from milan_mm.visualization.style import PAGE_WIDTH

HIDDEN = 217  # grey of masked patches, that of maps where they have no value
BRIGHTEST = 0.98  # quantile: single patches would darken all others


class PretrainingModel(Protocol):
    """The parts of a `MILAN` that are shown."""

    data_preprocessor: Any
    backbone: Any
    mask_generator: Any
    decoder: Any
    head: Any
    encode_kept: Any


@dataclass(frozen=True)
class PretrainingViews:
    """What `pretraining_views` found for B images in S draws.

    Attributes:
        images: (B, H, W, 3) uint8, RGB.
        seeds: S seeds of the draws.
        probability: (B, h, w) float, that of each patch to be the first one that is kept; an image
            sums to 1. None where all patches are alike.
        kept: (S, B, h, w) bool.
        loss: (B, h, w) float of the first draw, NaN where a patch does not count.
        loss_name: Formula of the loss.
        reconstruction: (B, H, W, 3) uint8, RGB, of the first draw, kept patches as they are; None
            where something else than pixels is predicted.
    """

    images: np.ndarray
    seeds: tuple[int, ...]
    probability: np.ndarray | None
    kept: np.ndarray
    loss: np.ndarray
    loss_name: str
    reconstruction: np.ndarray | None


@torch.no_grad()
def pretraining_views(
    model: PretrainingModel, images: np.ndarray, seeds: Sequence[int] = (0,)
) -> PretrainingViews:
    """Run one step of a pretraining model, and some more draws of patches.

    Args:
        model: In eval mode.
        images: (B, H, W, 3) uint8, RGB, of the size that the model was trained on.
        seeds: Of the draws; the first is the one that is encoded.
    """
    inputs = normalise(model, images)
    target, importance = model.head.targets(inputs)
    num_patches = model.backbone.num_patches
    draws = []
    for seed in seeds:
        # a training that is watched goes on as if it were not
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            draws.append(model.mask_generator(inputs, num_patches, importance))
    kept = [torch.zeros(len(images), num_patches).scatter_(1, k.cpu(), 1) > 0 for k, _ in draws]
    ids_keep, ids_mask = draws[0]
    pred = model.decoder(model.encode_kept(inputs, ids_keep), ids_keep, ids_mask)
    loss = model.head.token_loss(pred, target)[:, -num_patches:].float().cpu()
    if model.head.loss_tokens == "masked":
        loss[kept[0]] = torch.nan
    grid = model.backbone.grid_size
    shown = torch.stack(kept).numpy().reshape(len(seeds), -1, *grid)
    pixels = model.head.picture(pred, inputs)
    reconstruction = None
    if pixels is not None:
        predicted = as_pixels(model.data_preprocessor, pixels)
        patch = images.shape[1] // grid[0]
        visible = np.stack([enlarge(kept_ones, patch) for kept_ones in shown[0]])
        reconstruction = np.where(visible[..., None], images, predicted)
    probability = None
    if model.mask_generator.needs_importance:
        weights = importance.float().cpu().numpy().reshape(-1, *grid)
        probability = weights / weights.sum(axis=(1, 2), keepdims=True)
    return PretrainingViews(
        images=images,
        seeds=tuple(seeds),
        probability=probability,
        kept=shown,
        loss=loss.numpy().reshape(-1, *grid),
        loss_name=model.head.loss_name,
        reconstruction=reconstruction,
    )


def pretraining_figure(
    views: PretrainingViews,
    names: Sequence[str] = (),
    caption: str = "",
    width: float = PAGE_WIDTH,
) -> Figure:
    """Draw one row per image.

    Args:
        names: Of the images, left of the rows.
        caption, width: See `panel_figure`.
    """
    patch = views.images.shape[1] // views.kept.shape[2]
    low, high = np.nanquantile(views.loss, [1 - BRIGHTEST, BRIGHTEST])
    titles = ["image", *(f"kept patches, seed {seed}" for seed in views.seeds), "loss per patch"]
    bars = [Bar(len(titles) - 1, len(titles) - 1, "loss", views.loss_name, low, high)]
    if views.probability is not None:
        titles.insert(1, "sampling probability")
        percent = 100 * views.probability
        top = np.quantile(percent, BRIGHTEST)
        bars = [Bar(b.first + 1, b.last + 1, b.quantity, b.label, b.low, b.high) for b in bars]
        bars.insert(0, Bar(1, 1, "probability", "% of the first draw", 0, top))
    if views.reconstruction is not None:
        titles.append("reconstruction")
    rows = []
    for i, image in enumerate(views.images):
        row = [Panel(image)]
        if views.probability is not None:
            row.append(Panel(percent[i], "probability", 0, top))
        for kept in views.kept:
            visible = enlarge(kept[i, ..., None], patch)
            row.append(Panel(np.where(visible, image, HIDDEN).astype(np.uint8)))
        row.append(Panel(views.loss[i], "loss", low, high))
        if views.reconstruction is not None:
            row.append(Panel(views.reconstruction[i]))
        rows.append(row)
    return panel_figure(rows, Frame(titles, names, bars, caption=caption, width=width))


def pretraining_sheet(
    model: PretrainingModel, images: np.ndarray, seeds: Sequence[int] = (0,), dpi: int = 150
) -> np.ndarray:
    """`pretraining_figure` as a picture (H, W, 3) uint8, RGB; see `pretraining_views`."""
    return picture_of(pretraining_figure(pretraining_views(model, images, seeds)), dpi)


def normalise(model: PretrainingModel, images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 RGB to the (B, 3, H, W) float input of the model."""
    preprocessor = model.data_preprocessor
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float().to(preprocessor.mean.device)
    return (inputs - preprocessor.mean) / preprocessor.std


def as_pixels(preprocessor: Any, imgs: Tensor) -> np.ndarray:
    """(B, 3, H, W) float, normalised, to (B, H, W, 3) uint8 RGB."""
    pixels = imgs.float() * preprocessor.std + preprocessor.mean
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
