"""What a pretraining step sees: attention, kept patches, loss map (arXiv 2208.06049, Figure 4)."""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from milan_mm.visualization.pictures import enlarge, grid, overlay_heatmap

HIDDEN = 128  # grey of masked patches


class PretrainingModel(Protocol):
    """The parts of a `MILAN` that are shown."""

    data_preprocessor: Any
    backbone: Any
    mask_generator: Any
    decoder: Any
    head: Any


@torch.no_grad()
def pretraining_sheet(model: PretrainingModel, images: np.ndarray, zoom: int = 2) -> np.ndarray:
    """One row per image: the image, the teacher's attention, the kept patches, the loss map.

    Args:
        model: A pretraining model, in eval mode.
        images: (B, H, W, 3) uint8, RGB, of the size that the model was trained on.
        zoom: Screen pixels per image pixel.

    Returns:
        The sheet as a picture. Brighter loss is higher, with one scale for the whole sheet.
    """
    inputs = normalise(model, images)
    target, importance = model.head.targets(inputs)
    num_patches = model.backbone.num_patches
    ids_keep, ids_mask = model.mask_generator(inputs, num_patches, importance)
    latent = model.backbone.encode(model.backbone.embed(inputs, ids_keep))
    pred = model.decoder(latent, ids_keep, ids_mask)
    loss = _as_grids(model, model.head.token_loss(pred, target)[:, -num_patches:])
    is_kept = torch.zeros(len(images), num_patches).scatter_(1, ids_keep.cpu(), 1.0)
    kept = _as_grids(model, is_kept)
    attention = None if importance is None else _as_grids(model, importance)

    titles = ["image", "class attention", "kept patches", "loss per patch"]
    rows = []
    for i, image in enumerate(images):
        patch = image.shape[0] // kept.shape[1]
        visible = np.where(enlarge(kept[i, ..., None], patch) > 0, image, HIDDEN).astype(np.uint8)
        row = [image, visible, overlay_heatmap(loss[i], image, vmax=np.quantile(loss, 0.98))]
        if attention is not None:
            row.insert(1, overlay_heatmap(attention[i], image))
        rows.append([enlarge(picture, zoom) for picture in row])
    return grid(rows, titles if attention is not None else [titles[0], *titles[2:]])


def normalise(model: PretrainingModel, images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 RGB to the (B, 3, H, W) float input of the model."""
    preprocessor = model.data_preprocessor
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float().to(preprocessor.mean.device)
    return (inputs - preprocessor.mean) / preprocessor.std


def _as_grids(model: PretrainingModel, values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy().reshape(-1, *model.backbone.grid_size)
