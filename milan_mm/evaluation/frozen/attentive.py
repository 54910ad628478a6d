"""Attentive probes: a learnt query attends to the patches, and a linear layer reads what it saw.

Source: the attentive classifier of CAPI (arXiv 2502.08769, `eval_classification.py` of its
repository), which follows AIM (arXiv 2401.08541) and leaves out AIM's batch norm, so that nothing
is normalised between the encoder and the probe. From CAPI: one query, keys and values by a linear
layer with bias, heads of 64 channels, a linear layer on the pooled values; all weights drawn from a
truncated normal of 0.02, biases zero; AdamW with betas 0.9 and 0.95, no decay of biases; 12,500
updates of 1,024 images, a tenth of them a linear warm-up, then a cosine to zero; 10 rates for 256
images, scaled to the batch, and 3 weight decays; the best on a tenth of the training images, which
no probe learns from, is tested as it is.

Different here: centre crops (CAPI draws crops and flips); images held out of each class alike; few
images are not read more than `AttentiveSettings.epochs` times; all probes start equal; an encoder
whose width is not a multiple of 64 has heads as in its own attention.

Keys and values of all patches are never made. A query meets a patch by (W_k^T q) . x, and the
values are W_v times the attended patch, which is the same function with a hundredth of the
multiplications. A bias of the keys would be the same for all patches and is left out: softmax does
not see it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from milan_mm.evaluation.features import find_device
from milan_mm.evaluation.frozen.linear_grid import HELD_OUT, Choice
from milan_mm.evaluation.frozen.stacked import (
    Stack,
    each_setting,
    in_percents,
    num_updates,
    shuffled,
    warm_cosine,
)
from milan_mm.evaluation.frozen.subsets import hold_out
from milan_mm.evaluation.voting import TOP

HEAD_CHANNELS = 64
# From numbers of images, a batch at a time, to their patch tokens (B, L, D), float, on the device.
Patches = Callable[[Iterable[Tensor]], Iterator[Tensor]]


@dataclass(frozen=True)
class AttentiveSettings:
    """The grid, and how its probes are trained.

    Attributes:
        rates: For 256 images. weight_decays: Of weights; biases have none.
        batch: Images per update, at most all. updates: At most. epochs: At most.
        warmup: Share of the updates. betas: Of AdamW.
        chunk: Images that the probes see at a time, for the sake of memory.
    """

    rates: tuple[float, ...] = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
    weight_decays: tuple[float, ...] = (5e-4, 1e-3, 5e-2)
    batch: int = 1024
    updates: int = 12_500
    epochs: int = 20
    warmup: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    chunk: int = 256


class AttentiveProbes:
    """S probes of one shape, stacked.

    Args:
        count: S. width: D of the tokens. num_heads: Of the attention.
        generator: Draws the start, which is the same for all.

    Attributes:
        tensors: query (S, D), key (S, D, D), value (S, D, D), value_bias (S, D),
            linear (S, C, D), linear_bias (S, C).
    """

    def __init__(
        self,
        count: int,
        width: int,
        num_classes: int,
        num_heads: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.num_heads = num_heads
        drawn = dict(
            query=(width,), key=(width, width), value=(width, width), linear=(num_classes, width)
        )
        zero = dict(value_bias=(width,), linear_bias=(num_classes,))
        self.tensors = {
            name: _copies(
                nn.init.trunc_normal_(torch.empty(shape), std=0.02, generator=generator), count
            ).to(device)
            for name, shape in drawn.items()
        }
        self.tensors |= {
            name: torch.zeros(count, *shape, device=device) for name, shape in zero.items()
        }

    def __call__(self, tokens: Tensor, only: int | None = None) -> Tensor:
        """Scores of all probes, or of one.

        Args:
            tokens: (B, L, D) float32 of the patches.

        Returns:
            (B, C, S).
        """
        part = slice(None) if only is None else slice(only, only + 1)
        t = {name: tensor[part] for name, tensor in self.tensors.items()}
        split = (self.num_heads, -1)
        query, key = t["query"].unflatten(1, split), t["key"].unflatten(1, split)
        asked = torch.einsum("shj,shjd->shd", query, key)  # what each head looks for
        asked = asked * query.shape[2] ** -0.5
        match = tokens @ asked.flatten(0, 1).T  # (B, L, S*A)
        seen = match.softmax(dim=1).transpose(1, 2) @ tokens  # (B, S*A, D)
        seen = seen.unflatten(1, asked.shape[:2])  # (B, S, A, D)
        value = t["value"].unflatten(1, split)  # (S, A, D/A, D)
        linear = t["linear"].unflatten(2, split)  # (S, C, A, D/A)
        bias = t["linear_bias"] + torch.einsum("scd,sd->sc", t["linear"], t["value_bias"])
        num_classes, width = t["linear"].shape[1:]
        if num_classes * self.num_heads < num_classes + width:  # which takes fewer multiplications
            scores = torch.einsum(
                "bshd,schd->bcs", seen, torch.einsum("schj,shjd->schd", linear, value)
            )
        else:
            pooled = torch.einsum("bshd,shjd->bshj", seen, value)
            scores = torch.einsum("bshj,schj->bcs", pooled, linear)
        return scores + bias.T


def attentive_grid(
    train: Patches,
    labels: Tensor,
    num_classes: int,
    test: Patches,
    num_test: int,
    width: int,
    num_heads: int,
    settings: AttentiveSettings,
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> Choice:
    """Train the grid on most training images, choose on the rest, and judge the test images.

    Args:
        train, test: Give patch tokens.
        labels: (N,) int64 of the training images.
        width: D of the tokens. num_heads: See `heads_of_probe`.
        seed: Of the start and the order.
        step: Called a hundred times.
    """
    device = find_device()
    learnt, held = hold_out(labels, HELD_OUT)
    each = each_setting(settings.rates, settings.weight_decays)
    generator = torch.Generator().manual_seed(seed)
    probes = AttentiveProbes(len(each), width, num_classes, num_heads, generator, device)
    train_attentive(probes, train, labels, learnt, each, settings, seed, step)

    hits = torch.zeros(len(each), dtype=torch.int64)
    with torch.no_grad():
        parts = held.split(settings.chunk)
        for ids, tokens in zip(parts, train(parts), strict=True):
            hits += (probes(tokens).argmax(dim=1).cpu() == labels[ids, None]).sum(dim=0)
        best = int(hits.argmax())  # of equal ones, the first
        top = min(TOP, num_classes)
        parts = torch.arange(num_test).split(settings.chunk)
        found = [probes(tokens, best)[..., 0].topk(top).indices.cpu() for tokens in test(parts)]
    chosen: dict[str, Any] = dict(each[best])
    return Choice(chosen, 100 * float(hits[best]) / len(held), torch.cat(found))


def train_attentive(
    probes: AttentiveProbes,
    patches: Patches,
    labels: Tensor,
    ids: Tensor,
    each: list[dict[str, float]],
    settings: AttentiveSettings,
    seed: int,
    step: Callable[[], object] = lambda: None,
) -> None:
    """Train all probes on the same batches, in place.

    Args:
        ids: Of the images to learn from.
        each: Rate for 256 images and weight decay of each probe.
    """
    batch = min(settings.batch, len(ids))
    updates = num_updates(len(ids), batch, settings.updates, settings.epochs)
    stack = Stack(
        probes.tensors,
        [setting | dict(lr=setting["lr"] * batch / 256) for setting in each],
        lambda groups: AdamW(groups, lr=0.0, betas=settings.betas, foreach=True),
        warm_cosine(updates, round(settings.warmup * updates)),
    )
    step = in_percents(step, updates)
    order = [ids[places] for places in shuffled(len(ids), batch, updates, seed)]
    for chosen, tokens in zip(order, patches(order), strict=True):
        for part, answers in zip(
            tokens.split(settings.chunk), labels[chosen].split(settings.chunk), strict=True
        ):
            targets = answers.to(part.device)[:, None].expand(-1, len(each))  # (b, S)
            stack.add(F.cross_entropy(probes(part), targets, reduction="sum") / batch)
        stack.step()
        step()


def heads_of_probe(width: int, num_heads: int) -> int:
    """Heads of 64 channels, or the encoder's own number where its width is no multiple of 64."""
    return num_heads if width % HEAD_CHANNELS else width // HEAD_CHANNELS


def _copies(tensor: Tensor, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape).contiguous()
