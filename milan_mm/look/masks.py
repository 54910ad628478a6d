"""What a pretraining hides, keeps and finds hard: Figure 4 of MILAN's paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from milan_mm.errors import UserError
from milan_mm.inference.restoring import Restored, restore
from milan_mm.look.images import Photo, square
from milan_mm.look.outcome import Outcome, Wording, make_facts
from milan_mm.look.systems import SHORT_HASH, short_path
from milan_mm.visualization.pretraining import (
    BRIGHTEST,
    PretrainingViews,
    pretraining_figure,
    pretraining_views,
)
from milan_mm.weights.reading import file_sha256


def read_pretraining(checkpoint: str) -> Restored:
    """The model of a pretraining checkpoint.

    Raises:
        MissingFileError, UserError: When the file is not one, naming what it is.
    """
    torch.manual_seed(0)  # a trial's teacher has random weights, which no checkpoint holds
    restored = restore(checkpoint)
    parts = ("backbone", "mask_generator", "decoder", "head")
    if restored.task != "pretrain" or not all(hasattr(restored.model, part) for part in parts):
        kind = dict(cls="a classifier", det="a detector", seg="a segmentor").get(restored.task)
        raise UserError(
            f"{checkpoint} is a checkpoint of {kind or 'another pretraining'}: masks are those of "
            "a MILAN or MAE pretraining of this package, give its epoch_N.pth"
        )
    return restored


def masks_figure(
    restored: Restored, photos: Sequence[Photo], draws: int, seed: int, wording: Wording
) -> Outcome:
    """Draw a row per image: sampling probability, kept patches of some draws, loss per patch.

    Args:
        restored: See `read_pretraining`.
        draws: Number of draws, with seeds from `seed` on.
    """
    model: Any = restored.model
    height, width = (n * model.backbone.patch_size for n in model.backbone.grid_size)
    if height != width:
        raise UserError(f"{restored.path} was trained on images of {height}x{width} px, not square")
    images = np.stack([square(photo, height) for photo in photos])
    views = pretraining_views(model, images, range(seed, seed + draws))
    sha256 = file_sha256(restored.path)
    caption = _caption(restored, views, sha256, height)
    names = [photo.path.stem for photo in photos]
    figure = pretraining_figure(views, names, wording.drawn(caption), wording.width)
    facts = make_facts(
        "Sampling, kept patches and loss of a pretraining",
        caption,
        wording,
        photos=photos,
        seeds=list(views.seeds),
        mask_ratio=model.mask_generator.mask_ratio,
        img_size=height,
    )
    facts["weights"] = [dict(name="pretraining", file=restored.path, sha256=sha256)]
    return Outcome(figure, facts)


def _caption(restored: Restored, views: PretrainingViews, sha256: str, size: int) -> str:
    model: Any = restored.model
    num_patches = model.backbone.num_patches
    kept = model.mask_generator.num_keep(num_patches)
    first = views.seeds[0]
    if views.probability is None:
        sampling = "Each patch is equally likely to be kept."
    else:
        sampling = (
            f"Patches are drawn with the probability that the teacher's ({_teacher(restored)}) "
            "class attention gives them."
        )
    counted = (
        "all tokens" if model.head.loss_tokens == "all" else "hidden patches only (grey: kept)"
    )
    made = ""
    if views.reconstruction is not None:
        made = f" The reconstruction shows kept patches as they are, seed {first}"
        if model.head.norm_pix:
            made += "; hidden ones have the brightness and contrast of the image's own"
        made += "."
    return (
        f"{sampling} {kept} of {num_patches} patches are kept, mask ratio "
        f"{model.mask_generator.mask_ratio:g}; the loss, {views.loss_name}, is that of seed "
        f"{first} and counts {counted}. The {1 - BRIGHTEST:.0%} of values at the ends of a colour "
        f"bar share its last colour.{made} Images of {size} px. Checkpoint: "
        f"{short_path(restored.path)} (sha256 {sha256[:SHORT_HASH]})."
    )


def _teacher(restored: Restored) -> str:
    settings = restored.config.model.head.get("teacher") or {}
    name = settings.get("model_name") or Path(settings.get("pretrained", "unnamed")).name
    is_random = settings.get("pretrained") == "random"
    return f"{name} with random weights" if is_random else str(name)
