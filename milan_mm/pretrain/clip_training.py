"""Training a small CLIP of one's own, to be a teacher: what its data do not change."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from milan_mm.pretrain.teacher_clip import model_config
from milan_mm.weights.reading import tensors_sha256
from milan_mm.weights.statistics import STATS as ENCODER_STATS
from milan_mm.weights.storing import save_tensors

# The paper's code feeds the teacher ImageNet-normalised images; our small ones learn on the same.
MEAN, STD = ENCODER_STATS["imagenet"]
STATS = dict(mean=[255 * value for value in MEAN], std=[255 * value for value in STD])
WEIGHT_DECAY, BETAS = 0.1, (0.9, 0.98)
LEAST_RATE = 0.02  # share of the peak at the end of the cosine


def create_clip(name: str, image_size: int, patch_dropout: float = 0.0) -> open_clip.CLIP:
    """A model with random weights, of an architecture that this package describes.

    Args:
        name: See `model_config`.
        image_size: Side of the images in pixels.
        patch_dropout: Share of the patches that it drops while it trains.
    """
    config = model_config(name)
    config["vision_cfg"] |= dict(image_size=image_size, patch_dropout=patch_dropout)
    return open_clip.CLIP(**config)


def normalise(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 RGB, 0-255 -> (B, 3, H, W) float32, ImageNet-normalised."""
    return standardise(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)


def standardise(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) float, 0-1, RGB -> the same, ImageNet-normalised."""
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def encode_tokens(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Normalised text features, (B, C) float32.

    open_clip's `encode_text` without its padding: causal attention makes the result the same, and
    most captions fill a part of the context.

    Args:
        tokens: (B, context) int64; the end token has the highest id.
    """
    ends = tokens.argmax(1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x)), ends]
    return F.normalize(x @ model.text_projection, dim=-1)


def train_contrastive(
    modules: Sequence[nn.Module],
    logit_scale: nn.Parameter,
    compute: Callable[[], tuple[Tensor, dict[str, float]]],
    steps: int,
    peak_lr: float,
    warmup: int,
    title: str,
) -> None:
    """Train modules in place by AdamW; the rate rises linearly, and falls by a cosine.

    Args:
        modules: What is trained: all parameters that ask for a gradient.
        logit_scale: CLIP's, kept from 1 to 100.
        compute: Draws a batch; the loss of it, and numbers for the progress bar.
        warmup: Steps in which the rate rises to `peak_lr`.
        title: Of the progress bar.
    """
    trained = [p for module in modules for p in module.parameters()]
    decay = [p for p in trained if p.requires_grad and p.ndim > 1]
    plain = [p for p in trained if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decay, "weight_decay": WEIGHT_DECAY},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak_lr, betas=BETAS)
    bar = tqdm(range(steps), desc=title, mininterval=5)
    for step in bar:
        progress = (step - warmup) / (steps - warmup)
        factor = (step + 1) / warmup if step < warmup else math.cos(progress * math.pi / 2) ** 2
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * max(factor, LEAST_RATE)
        loss, numbers = compute()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            logit_scale.clamp_(0, math.log(100))
        if step % 20 == 0:
            bar.set_postfix({key: f"{value:.3f}" for key, value in numbers.items()})


def save_clip(
    model: open_clip.CLIP,
    name: str,
    out: Path,
    command: str,
    numbers: Mapping[str, float] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write fp16 weights, how they came about, and the evaluation.

    An interrupted save leaves the old file whole.

    Args:
        name: Of the architecture, as `CLIPTeacher` takes it.
        command: That trains the same weights.
        numbers: Of the evaluation, 0-1.
        metadata: Further fields.
    """
    tensors = {n: t.half().contiguous() for n, t in model.state_dict().items()}
    fields = {
        "model": name,
        "command": command,
        "evaluation": json.dumps({key: round(value, 4) for key, value in (numbers or {}).items()}),
        "image_mean": json.dumps(MEAN),
        "image_std": json.dumps(STD),
        "sha256": tensors_sha256(tensors),
    }
    save_tensors(out, tensors, {**fields, **(metadata or {})})
