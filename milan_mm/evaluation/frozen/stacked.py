"""Copies of a small head, each with settings of its own, trained side by side.

The copies lie in stacked tensors, so that one multiplication serves all of them. The optimizer is
torch's own: it gets each copy's slices as parameters, in a group with the copy's rate and decay.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class Stack:
    """Stacked parameters of S copies, and the optimizer that trains them.

    Args:
        tensors: By name, (S, ...) float; they are trained in place. Biases have 'bias' in their
            names and are not decayed.
        settings: Of each copy, with 'lr' and 'weight_decay'.
        make: From groups of parameters to an optimizer.
        factor: Of the rates, from the number of the update.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        settings: Sequence[Mapping[str, float]],
        make: Callable[[list[dict[str, Any]]], Optimizer],
        factor: Callable[[int], float],
    ) -> None:
        self.tensors = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, stack in self.tensors.items():
            # autograd adds to a gradient that is there in place, so slices of it stay up to date
            stack.grad = torch.zeros_like(stack)
            for i, copy in enumerate(settings):
                part = stack.detach()[i].requires_grad_()  # shares its memory
                part.grad = stack.grad[i]
                decay = 0.0 if "bias" in name else copy["weight_decay"]
                groups.setdefault((copy["lr"], decay), []).append(part)
        self.optimizer = make(
            [dict(params=p, lr=lr, weight_decay=decay) for (lr, decay), p in groups.items()]
        )
        self.scheduler = LambdaLR(self.optimizer, factor)

    def add(self, loss: Tensor) -> None:
        """Add the gradients of a part of a batch.

        Args:
            loss: Sum of the losses of the copies, each of which depends on its slices alone.
        """
        loss.backward()

    def step(self) -> None:
        """One update of all copies."""
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=False)


def each_setting(rates: Sequence[float], decays: Sequence[float]) -> list[dict[str, float]]:
    """All pairs of a rate and a weight decay, as `Stack` takes them."""
    return [dict(lr=lr, weight_decay=decay) for lr in rates for decay in decays]


def shuffled(num_images: int, batch: int, updates: int, seed: int) -> Iterator[Tensor]:
    """Numbers of the images of each update, every epoch in an order of its own.

    Args:
        batch: At most `num_images`; the rest of an epoch is left out.
        updates: How many to give.
    """
    generator = torch.Generator().manual_seed(seed)
    given = 0
    while given < updates:
        whole = num_images // batch * batch
        order = torch.randperm(num_images, generator=generator)[:whole]
        for ids in order.split(batch)[: updates - given]:
            yield ids
            given += 1


def num_updates(num_images: int, batch: int, updates: int, epochs: int) -> int:
    """The length of a training: `updates`, but at most so many epochs of few images."""
    return min(updates, epochs * max(1, num_images // batch))


def cosine(updates: int) -> Callable[[int], float]:
    """From 1 to 0 in half a cosine; torch's `CosineAnnealingLR` by its closed form."""
    return lambda update: (1 + math.cos(math.pi * update / updates)) / 2


def warm_cosine(updates: int, warmup: int) -> Callable[[int], float]:
    """From 0 to 1 in a line, both included, then from 1 to 0 in half a cosine, both included."""

    def factor(update: int) -> float:
        if update < warmup:
            return update / max(1, warmup - 1)
        return (1 + math.cos(math.pi * (update - warmup) / max(1, updates - warmup - 1))) / 2

    return factor


def in_percents(step: Callable[[], object], updates: int) -> Callable[[], object]:
    """Calls `step` a hundred times while it is called for each of some updates."""
    done = 0

    def after_update() -> None:
        nonlocal done
        for _ in range(100 * (done + 1) // updates - 100 * done // updates):
            step()
        done += 1

    return after_update
