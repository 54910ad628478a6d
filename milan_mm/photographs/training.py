"""Training the teacher: open_clip's CLIP and loss on captions made of class names.

**No image of a batch is a false negative.** Many images share a class, hence a caption, and CLIP's
loss takes every other pair of a batch for a mismatch. So a batch consists of groups in which no
class appears twice, and the loss is taken within each group. A group has as many classes as there
are, up to the batch: with 40 classes each image is compared with all 40 captions. Masking equal
names in the loss would do the same, but would need a loss other than open_clip's.

**The control is shuffled.** The same captions go to the same images, but which caption an image
has is drawn once. What such a teacher knows is not language. Nor is it much else: on the 16,000
images of Tiny-ImageNet its loss stays at that of guessing, ln 40, for all of the schedule.

The image tower computes in bfloat16, as pretraining does, which saves 30 % of the time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from milan_mm.photographs.captions import TEMPLATES, words_of
from milan_mm.photographs.models import create, encode_texts, with_dropout
from milan_mm.photographs.pixels import random_views
from milan_mm.pretrain.clip_training import normalise, train_contrastive


@dataclass(frozen=True)
class Stage:
    """A part of the schedule; peak_lr falls by a cosine inside the stage.

    Attributes:
        patch_dropout: Share of the patches that the image tower does not see.
        batch_size: Images of a step; fewer where groups do not fill it.
        warmup: Steps in which the rate rises.
    """

    patch_dropout: float
    batch_size: int
    steps: int
    peak_lr: float
    warmup: int


# Half of the patches for 10 epochs, then all for one. At twice the rate the loss falls no faster.
STAGES = (Stage(0.5, 80, 2000, 1.0e-3, 100), Stage(0.0, 80, 200, 4.0e-4, 10))
LEAST_AREA = 0.35  # of a crop, as a share of the image


def shuffle(labels: np.ndarray, seed: int) -> np.ndarray:
    """The same labels, given to images at random."""
    return np.random.default_rng((seed, 1)).permutation(labels)


def groups(labels: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless (size,) numbers of images, of which no two have the same label.

    Each class gives its images in a random order, and starts again with another one when all were
    drawn; so classes are equally frequent.

    Args:
        labels: (N,) int64. size: At most the number of classes.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    waiting: list[list[int]] = [[] for _ in members]
    while True:
        chosen = rng.permutation(len(members))[:size]
        for i in chosen:
            waiting[i] = waiting[i] or rng.permutation(members[i]).tolist()
        yield np.array([waiting[i].pop() for i in chosen])


def train(
    images: np.ndarray,
    labels: np.ndarray,
    classes: dict[str, str],
    seed: int,
    stages: tuple[Stage, ...] = STAGES,
) -> open_clip.CLIP:
    """Train a CLIP from scratch; on one thread a seed gives the same weights again.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        labels: (N,) int64, the class whose caption each image has.
        classes: Names by folder, in the order of the labels.

    Raises:
        UserError: For a name that is too long.
    """
    words = words_of(classes)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = create()
    for number, stage in enumerate(stages, start=1):
        model = with_dropout(model, stage.patch_dropout)
        title = f"stage {number}/{len(stages)}"
        _train_stage(model, stage, images, labels, words, rng, title)
    return with_dropout(model, 0.0).eval()


def _train_stage(
    model: open_clip.CLIP,
    stage: Stage,
    images: np.ndarray,
    labels: np.ndarray,
    words: list[str],
    rng: np.random.Generator,
    title: str,
) -> None:
    """Run one stage in place."""
    criterion = open_clip.ClipLoss()
    size = min(len(words), stage.batch_size)
    stream, parts = groups(labels, size, rng), stage.batch_size // size

    def compute() -> tuple[Tensor, dict[str, float]]:
        ids = np.concatenate([next(stream) for _ in range(parts)])
        pixels = random_views(normalise(images[ids]), LEAST_AREA, rng)
        with torch.autocast("cpu", torch.bfloat16):
            image_features = model.encode_image(pixels)
        image_features = F.normalize(image_features.float(), dim=-1)
        drawn = rng.choice(TEMPLATES, len(words))
        seen, places = np.unique(labels[ids], return_inverse=True)
        captions = [drawn[i].format(words[i]) for i in seen]  # one for each class
        text_features = encode_texts(model, captions)[torch.from_numpy(places)]
        scale = model.logit_scale.exp()
        pairs = zip(image_features.split(size), text_features.split(size), strict=True)
        loss = torch.stack([criterion(image, text, scale) for image, text in pairs]).mean()
        return loss, {"loss": loss.item()}

    model.train()
    train_contrastive(
        [model], model.logit_scale, compute, stage.steps, stage.peak_lr, stage.warmup, title
    )
