"""Linear probes over a grid of rates, weight decays, blocks and poolings, trained at once.

Source: the linear evaluation of DINOv2 (arXiv 2304.07193, `dinov2/eval/linear.py` of its
repository). From there: one linear layer without normalisation, drawn from N(0, 0.01) with a zero
bias; SGD with momentum 0.9; rates for 256 images, scaled to the batch; a cosine to zero over 12,500
updates of 1,024 images; the class tokens of the last block or of the last four, after the final
norm, with or without the mean of the last block's patches.

Different here:
- features of centre crops, computed once; DINOv2 draws a crop and a flip for each;
- the best probe is chosen on a tenth of the training images; DINOv2 takes that which is best on
  ImageNet's validation images;
- the best settings are then trained on all training images, as published numbers are;
- weight decay is in the grid; DINOv2 has none;
- the mean of the patches is an input of its own too, for encoders without a class token, and so is
  an encoder's own attention pooling (SigLIP, PE), of the last block;
- few images are not read more than `GridSettings.epochs` times;
- all probes of an input start equal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD

from milan_mm.evaluation.features import find_device
from milan_mm.evaluation.frozen.stacked import (
    Stack,
    cosine,
    each_setting,
    in_percents,
    num_updates,
    shuffled,
)
from milan_mm.evaluation.frozen.subsets import hold_out
from milan_mm.evaluation.voting import TOP

POOLINGS = ("cls_token", "avg", "both")
OWN = "pool"  # an encoder's own attention pooling, where it has one
HELD_OUT = 0.1  # of the training images of each class, to choose by


@dataclass(frozen=True)
class GridSettings:
    """The grid, and how its probes are trained.

    Attributes:
        rates: For 256 images. weight_decays: Of weights; biases have none.
        blocks: How many of the last are put side by side.
        poolings: Of `POOLINGS` and `OWN`, see `linear_input`.
        batch: Images per update, at most all. updates: At most. epochs: At most.
        momentum: Of SGD. spread: Of the weights at the start.
        chunk: Images that are judged at a time.
    """

    rates: tuple[float, ...] = (
        *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
        *(1e-2, 2e-2, 5e-2, 1e-1),
    )
    weight_decays: tuple[float, ...] = (0.0, 1e-4)
    blocks: tuple[int, ...] = (1, 4)
    poolings: tuple[str, ...] = POOLINGS
    batch: int = 1024
    updates: int = 12_500
    epochs: int = 100
    momentum: float = 0.9
    spread: float = 0.01
    chunk: int = 4096


@dataclass(frozen=True)
class Choice:
    """What a grid found.

    Attributes:
        settings: Of the best head, by name. accuracy: Of it on the images held out, in %.
        predictions: (N, at most 5) int64 classes of the test images, likeliest first.
    """

    settings: dict[str, Any]
    accuracy: float
    predictions: Tensor


def linear_input(tokens: Mapping[str, Tensor], blocks: int, pooling: str) -> Tensor:
    """What a probe sees.

    Args:
        tokens: By pooling, (B, blocks of the encoder, D), the last block last.
        blocks: How many of the last.
        pooling: 'cls_token', 'avg' or 'pool' of these blocks, or 'both': their class tokens and the
            mean of the patches of the last one.

    Returns:
        (B, blocks * D) float32, one D more for 'both'.
    """
    if pooling == "both":
        both = [tokens["cls_token"][:, -blocks:].flatten(1), tokens["avg"][:, -1]]
        return torch.cat([part.float() for part in both], dim=1)
    return tokens[pooling][:, -blocks:].flatten(1).float()


def linear_grid(
    train: Mapping[str, Tensor],
    labels: Tensor,
    num_classes: int,
    test: Mapping[str, Tensor],
    settings: GridSettings,
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> Choice:
    """Train the grid on most training images, choose on the rest, and judge the test images.

    Args:
        train, test: By pooling, (N, blocks, D) float16 or float32, mapped or in memory.
        labels: (N,) int64 of the training images.
        seed: Of the start and the order.
        step: Called a hundred times.
    """
    learnt, held = hold_out(labels, HELD_OUT)
    best: tuple[float, dict[str, Any]] = (-1.0, {})
    inputs = _inputs(settings)
    probes = train_probes(train, labels, learnt, num_classes, inputs, settings, seed, step)
    for probe in probes:
        hits = probe.hits(train, labels, held, settings.chunk)  # (S,)
        i = int(hits.argmax())  # of equal ones, the first
        accuracy = 100 * float(hits[i]) / len(held)
        if accuracy > best[0]:
            best = accuracy, dict(blocks=probe.blocks, pooling=probe.pooling) | probe.settings[i]
    accuracy, chosen = best
    (probe,) = train_probes(
        train,
        labels,
        torch.arange(len(labels)),
        num_classes,
        [(chosen["blocks"], chosen["pooling"], [{k: chosen[k] for k in ("lr", "weight_decay")}])],
        settings,
        seed,
    )
    return Choice(chosen, accuracy, probe.predict(test, settings.chunk))


@dataclass(frozen=True)
class Probes:
    """Linear layers of one input, one for each setting.

    Attributes:
        blocks, pooling: See `linear_input`. settings: Of each, rates for 256 images.
        weight: (S, C, width). bias: (S, C).
    """

    blocks: int
    pooling: str
    settings: Sequence[dict[str, float]]
    weight: Tensor
    bias: Tensor

    def __call__(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Scores of all probes: (B, C, S) float32."""
        seen = linear_input(tokens, self.blocks, self.pooling)
        weight, bias = self.weight.transpose(0, 1), self.bias.T  # probes last: a faster softmax
        scores = F.linear(seen, weight.flatten(0, 1), bias.flatten())  # (B, C*S)
        return scores.unflatten(1, bias.shape)

    @torch.no_grad()
    def hits(self, tokens: Mapping[str, Tensor], labels: Tensor, ids: Tensor, chunk: int) -> Tensor:
        """How many of some images each probe gets right: (S,) int64."""
        found = torch.zeros(len(self.settings), dtype=torch.int64)
        for part in ids.split(chunk):
            guesses = self(_take(tokens, part, self.weight.device)).argmax(dim=1).cpu()  # (B, S)
            found += (guesses == labels[part, None]).sum(dim=0)
        return found

    @torch.no_grad()
    def predict(self, tokens: Mapping[str, Tensor], chunk: int) -> Tensor:
        """Classes of all images by the first probe: (N, at most 5) int64, likeliest first."""
        count = len(next(iter(tokens.values())))
        top = min(TOP, self.bias.shape[1])
        return torch.cat(
            [
                self(_take(tokens, ids, self.weight.device))[..., 0].topk(top).indices.cpu()
                for ids in torch.arange(count).split(chunk)
            ]
        )


def train_probes(
    tokens: Mapping[str, Tensor],
    labels: Tensor,
    ids: Tensor,
    num_classes: int,
    inputs: Sequence[tuple[int, str, list[dict[str, float]]]],
    settings: GridSettings,
    seed: int,
    step: Callable[[], object] = lambda: None,
) -> list[Probes]:
    """Train probes of several inputs on the same batches.

    Args:
        ids: Of the images to learn from.
        inputs: Blocks, pooling and the settings of their probes.
    """
    device = find_device()
    batch = min(settings.batch, len(ids))
    updates = num_updates(len(ids), batch, settings.updates, settings.epochs)
    generator = torch.Generator().manual_seed(seed)
    probes, stacks = [], []
    for blocks, pooling, each in inputs:
        width = linear_input(_take(tokens, ids[:1], "cpu"), blocks, pooling).shape[1]
        weight = torch.randn(num_classes, width, generator=generator) * settings.spread
        weight = weight.expand(len(each), -1, -1).to(device).contiguous()
        bias = torch.zeros(len(each), num_classes, device=device)
        scaled = [setting | dict(lr=setting["lr"] * batch / 256) for setting in each]
        stacks.append(
            Stack(
                dict(weight=weight, bias=bias),
                scaled,
                lambda groups: SGD(groups, lr=0.0, momentum=settings.momentum, foreach=True),
                cosine(updates),
            )
        )
        probes.append(Probes(blocks, pooling, each, weight, bias))
    step = in_percents(step, updates)
    for places in shuffled(len(ids), batch, updates, seed):
        chosen = ids[places]
        seen, targets = _take(tokens, chosen, device), labels[chosen].to(device)
        for probe, stack in zip(probes, stacks, strict=True):
            scores = probe(seen)
            copies = targets[:, None].expand(-1, scores.shape[2])  # (B, S)
            stack.add(F.cross_entropy(scores, copies, reduction="sum") / batch)
            stack.step()
        step()
    return probes


def _inputs(settings: GridSettings) -> list[tuple[int, str, list[dict[str, float]]]]:
    each = each_setting(settings.rates, settings.weight_decays)
    return [
        (blocks, pooling, each)
        for blocks in settings.blocks
        for pooling in settings.poolings
        if pooling != OWN or blocks == min(settings.blocks)  # it was learnt on the last block
    ]


def _take(
    tokens: Mapping[str, Tensor], ids: Tensor, device: torch.device | str
) -> dict[str, Tensor]:
    """Rows of all poolings, copied from the disk to the device."""
    return {name: values[ids].to(device) for name, values in tokens.items()}
