"""Training a teacher of images alone: SimCLR on the tower that the captioned CLIP has.

Two random views of each image are drawn, and the tower has to find the other view of an image among
those of all images of the batch. No caption and no label is seen. The loss is open_clip's, between
views instead of between images and captions. As in SimCLR, a small head stands between tower and
loss, and is thrown away: what it forgets, the tower still knows.

**What is equal to the captioned CLIP**: images, tower, optimizer, and how often each image is
drawn; but here it is seen as two views each time. So that this takes no longer, most of the
training sees a quarter of the patches instead of half of them, which was as good at equal processor
time. Temperature, crops and rate were chosen by k-NN on the teacher's own classes.
"""

import math
from collections.abc import Iterator

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milan_mm.photographs.models import create, with_dropout
from milan_mm.photographs.pixels import random_colours, random_views
from milan_mm.photographs.training import Stage
from milan_mm.pretrain.clip_training import standardise, train_contrastive

# Each image of a batch is seen twice in a step. Of 16,000: 10 epochs and one, as with captions.
VIEW_STAGES = (Stage(0.75, 128, 1250, 1.5e-3, 60), Stage(0.0, 128, 125, 6.0e-4, 6))
LEAST_AREA = 0.3  # of a crop, as a share of the image
TEMPERATURE = 0.1
HIDDEN = 512  # width of the head


def train_on_views(
    images: np.ndarray, seed: int, stages: tuple[Stage, ...] = VIEW_STAGES
) -> open_clip.CLIP:
    """Train the image tower of a CLIP from scratch; its text tower stays random.

    On one thread a seed gives the same weights again.

    Args:
        images: (N, H, W, 3) uint8 RGB.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = create()
    width = model.visual.output_dim
    head = nn.Sequential(
        nn.Linear(width, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width)
    )
    for number, stage in enumerate(stages, start=1):
        model = with_dropout(model, stage.patch_dropout)
        title = f"stage {number}/{len(stages)}"
        _train_stage(model, head, stage, images, rng, title)
    return with_dropout(model, 0.0).eval()


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless (size,) numbers of images, none of which comes again before all have been.

    None is twice in a batch, where its views would have to be told apart.

    Args:
        size: At most `count`.
    """
    waiting: np.ndarray = np.empty(0, np.int64)
    while True:
        if len(waiting) < size:
            order = rng.permutation(count)
            is_waiting = np.isin(order, waiting)
            waiting = np.concatenate([waiting, order[~is_waiting], order[is_waiting]])
        yield waiting[:size]
        waiting = waiting[size:]


def _train_stage(
    model: open_clip.CLIP,
    head: nn.Module,
    stage: Stage,
    images: np.ndarray,
    rng: np.random.Generator,
    title: str,
) -> None:
    """Run one stage in place."""
    criterion = open_clip.ClipLoss()
    stream = batches(len(images), min(stage.batch_size, len(images)), rng)
    scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)), requires_grad=False)

    def compute() -> tuple[Tensor, dict[str, float]]:
        chosen = torch.from_numpy(images[next(stream)]).permute(0, 3, 1, 2).float() / 255
        views = torch.cat([_view(chosen, rng) for _ in range(2)])
        with torch.autocast("cpu", torch.bfloat16):
            features = model.encode_image(views)
        first, second = F.normalize(head(features.float()), dim=-1).chunk(2)
        loss = criterion(first, second, scale.exp())
        return loss, {"loss": loss.item()}

    model.train()
    head.train()
    trained = [model.visual, head]
    train_contrastive(trained, scale, compute, stage.steps, stage.peak_lr, stage.warmup, title)


def _view(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """A crop with other colours, of (B, 3, H, W) float, 0-1; ImageNet-normalised."""
    return standardise(random_colours(random_views(pixels, LEAST_AREA, rng), rng))
