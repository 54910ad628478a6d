"""What a training will do, said before it starts: images, updates, rates, evaluations, files."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from milan_mm.run.schedule.rates import Part, configured_rate, schedule_parts, simulate
from milan_mm.run.schedule.updates import Updates, count_updates
from milan_mm.text import count


@dataclass(frozen=True)
class Plan:
    """A training that has its data and has not started.

    Attributes:
        updates: Its length and split.
        val_images: Of the validation; None without one.
        rates: Of every update, (updates,) float64, before layer decay; None when they depend on
            metrics, or when there are several optimizers.
        parts: The schedulers that make them.
        lr: The rate of the config; None for several optimizers.
        evaluations: How often it validates.
        checkpoints: How many it writes; None when no hook is there for it.
        kept: The most that stay on disk; None for all.
        is_trial: Whether its batch is not that of a recipe, as in `--quick`.
    """

    updates: Updates
    val_images: int | None
    rates: np.ndarray | None = field(repr=False)
    parts: list[Part] = field(repr=False)
    lr: float | None
    evaluations: int
    checkpoints: int | None
    kept: int | None
    is_trial: bool

    @classmethod
    def of(cls, runner: Runner) -> "Plan":
        """That of a runner before `train`; states its schedules in updates.

        Raises:
            UserError: When an epoch is not a whole number of updates, or a scheduler cannot be
                built.
        """
        updates = count_updates(runner)
        lr = configured_rate(runner)
        optimizer, parts = schedule_parts(runner, updates)
        val_loop = runner.val_loop
        checkpoints, kept = _checkpoints(runner)
        return cls(
            updates=updates,
            val_images=_num_images(val_loop.dataloader, runner) if val_loop else None,
            rates=None if lr is None else simulate(optimizer, parts, updates),
            parts=parts,
            lr=lr,
            evaluations=_evaluations(runner) if val_loop else 0,
            checkpoints=checkpoints,
            kept=kept,
            is_trial="total_batch" not in runner.cfg,
        )

    @property
    def unit(self) -> str:
        """What the run counts, see `Updates`."""
        return "iteration" if self.is_trial else "update"

    @property
    def warmup_updates(self) -> int:
        """Updates below the full rate at the start, other schedulers aside."""
        ends = [self.in_updates(p, p.scheduler.end) for p in self.parts if p.warms_up]
        return max((min(end, self.updates.total) - 1 for end in ends), default=0)

    @property
    def highest_lr(self) -> float | None:
        """The highest rate that the run reaches."""
        return None if self.rates is None or not self.rates.size else float(self.rates.max())

    @property
    def last_lr(self) -> float | None:
        """The rate of the last update."""
        return None if self.rates is None or not self.rates.size else float(self.rates[-1])

    @property
    def schedule(self) -> dict[str, int | float | None]:
        """What a checkpoint records of it."""
        return dict(
            updates=self.updates.total,
            updates_per_epoch=self.updates.per_epoch,
            epochs=self.updates.epochs,
            warmup_updates=self.warmup_updates,
            highest_lr=self.highest_lr,
            last_lr=self.last_lr,
        )

    def in_updates(self, part: Part, position: int) -> int:
        """What a scheduler counts, in updates."""
        return position * self.updates.per_epoch if part.scheduler.by_epoch else position

    def lines(self) -> list[str]:
        """For the screen and the log."""
        return [
            self._data_line(),
            self._updates_line(),
            self._rates_line(),
            self._files_line(),
        ]

    def _data_line(self) -> str:
        val = "" if self.val_images is None else f", {self.val_images:,} for validation"
        return f"plan: {count(self.updates.images, 'training image')}{val}"

    def _updates_line(self) -> str:
        made = self.updates
        text = f"plan: {count(made.total, self.unit)} of {count(made.total_batch, 'image')}"
        if made.epochs is not None:
            text += f", {count(made.epochs, 'epoch')} of {made.per_epoch:,}"
        elif made.per_epoch:
            passes = f"{made.total / made.per_epoch:.3g}"
            if made.total < made.per_epoch:
                text += f", less than an epoch of {made.per_epoch:,}"
            else:
                text += f", {passes} epoch{'s' * (passes != '1')} of {made.per_epoch:,}"
        if made.processes > 1:
            text += f"; {made.processes} processes"
        if made.accumulation > 1:
            text += (
                f"; each {self.unit} is computed in {made.accumulation} parts; the log counts "
                "every part as an iteration"
            )
        return text

    def _rates_line(self) -> str:
        if self.highest_lr is None:
            return "plan: learning rate: known as the run goes"
        text = f"plan: learning rate up to {self.highest_lr:.4g}"
        if self.warmup_updates:
            share = 100 * self.warmup_updates / self.updates.total
            text += f" after a warm-up of {count(self.warmup_updates, self.unit)} ({share:.2g} %)"
        return f"{text}, {self.last_lr:.4g} in the last {self.unit}"

    def _files_line(self) -> str:
        files = count(self.checkpoints or 0, "checkpoint")
        if self.kept and (self.checkpoints or 0) > self.kept:
            files += f" (keeps the last {self.kept})"
        return f"plan: {count(self.evaluations, 'evaluation')}, {files}"


def _num_images(loader: Any, runner: Runner) -> int:
    """Images of a validation: a trial's sampler takes a few."""
    sizes = len(loader.dataset), len(loader.sampler) * runner.world_size
    return min(sizes)


def _evaluations(runner: Runner) -> int:
    """How often the train loop validates, the end of the training included."""
    loop = runner.train_loop
    total = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
    # mmengine looks for a new interval one epoch or iteration ahead
    starts = [max(at - 1, 1) for at in loop.dynamic_milestones]
    times, validates_last = 0, False
    for start, stop, every in zip(
        starts, [*starts[1:], total + 1], loop.dynamic_intervals, strict=True
    ):
        first, last = max(start, loop.val_begin), min(stop - 1, total)
        if first <= last:
            times += last // every - (first - 1) // every
            validates_last = total % every == 0
    return times + (total >= loop.val_begin and not validates_last)


def checkpoint_hook(runner: Runner) -> CheckpointHook | None:
    """The one that saves, if any."""
    return next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)


def _checkpoints(runner: Runner) -> tuple[int | None, int | None]:
    """How many files the hook writes, and how many of them it keeps."""
    if (hook := checkpoint_hook(runner)) is None:
        return None, None
    loop = runner.train_loop
    total = loop.max_epochs if hook.by_epoch else loop.max_iters
    begin, interval = hook.save_begin, hook.interval
    first = begin or interval
    written = 0 if interval < 1 or total < first else (total - first) // interval + 1
    saved_at_end = interval > 0 and total >= begin and (total - begin) % interval == 0
    written += hook.save_last and not saved_at_end
    return written, hook.max_keep_ckpts if hook.max_keep_ckpts > 0 else None
