"""The learning rate of every update of a run that has not started.

mmengine's own schedulers are stepped as the run will step them, on an optimizer without a model.
Their rates build on each other, so that none can be skipped; 160,000 updates take a fifth of a
second.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

from milan_mm.errors import UserError
from milan_mm.run.schedule.updates import Updates, scheduler_settings

ENDLESS = int(1e9)  # the end of a scheduler that states none


@dataclass(frozen=True)
class Part:
    """A scheduler of the learning rate.

    Attributes:
        name: As the config has it, for messages.
        scheduler: mmengine's. in_epochs: Whether the config counts it in epochs.
    """

    name: str
    scheduler: Any
    in_epochs: bool

    @property
    def warms_up(self) -> bool:
        """Whether it raises the rate from the first update on, and ends."""
        own = self.scheduler
        start = getattr(own, "start_factor", getattr(own, "factor", None))
        rises = "Warmup" in type(own).__name__
        if start is not None:
            rises = start < getattr(own, "end_factor", 1.0)
        return rises and own.begin == 0 and own.end < ENDLESS


def configured_rate(runner: Runner) -> float | None:
    """The rate that the config gives to its optimizer; None for several optimizers."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, Mapping):
        optimizer = wrapper.get("optimizer")
        return optimizer.get("lr") if isinstance(optimizer, Mapping) else None
    return wrapper.optimizer.defaults["lr"] if isinstance(wrapper, OptimWrapper) else None


def schedule_parts(runner: Runner, updates: Updates) -> tuple[torch.optim.Optimizer, list[Part]]:
    """The schedulers of the learning rate, on an optimizer of their own.

    Raises:
        UserError: When one cannot be built.
    """
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=configured_rate(runner) or 1.0, momentum=0.9)
    defaults = dict(optimizer=optimizer, epoch_length=max(updates.per_epoch, 1))
    parts = []
    for index, settings in enumerate(scheduler_settings(runner.param_schedulers)):
        kind = str(settings.type)
        if not kind.endswith("LR") and settings.get("param_name") != "lr":
            continue  # of momentum or weight decay
        name = f"param_scheduler[{index}] ({kind})"
        try:
            scheduler = PARAM_SCHEDULERS.build(ConfigDict(settings), default_args=defaults)
        except (AssertionError, ValueError, TypeError) as error:
            raise UserError(f"{name} does not fit a run of {updates}: {error!r}") from error
        parts.append(Part(name, scheduler, settings.get("by_epoch", True)))
    return optimizer, parts


def simulate(
    optimizer: torch.optim.Optimizer, parts: list[Part], updates: Updates
) -> np.ndarray | None:
    """The rate of every update, (updates,) float64, before layer decay.

    Returns:
        None when it depends on the metrics of the run.
    """
    schedulers = [part.scheduler for part in parts]
    if any(getattr(scheduler, "need_val_args", False) for scheduler in schedulers):
        return None
    optimizer.step()  # mmengine warns of schedulers that step before their optimizer
    rates = np.empty(updates.total)
    group = optimizer.param_groups[0]
    of_epochs = [s.step for s in schedulers if s.by_epoch]
    of_updates = [s for s in schedulers if not s.by_epoch]
    for start, stop in _stretches(of_updates, updates):
        steps = [s.step for s in of_updates if start + 1 < s.end]  # one that has ended does nothing
        for update in range(start, stop):
            rates[update] = group["lr"]
            for step in steps:
                step()
        if updates.epochs and stop % updates.per_epoch == 0:
            for step in of_epochs:
                step()
    return rates


def _stretches(schedulers: list, updates: Updates) -> Iterator[tuple[int, int]]:
    """Ranges of updates within which no epoch and no scheduler ends."""
    bounds = {0, updates.total, *(s.end for s in schedulers if s.end < updates.total)}
    if updates.epochs:
        bounds |= set(range(0, updates.total, updates.per_epoch or 1))
    yield from itertools.pairwise(sorted(bounds))
