"""How many updates a run makes, and schedules that are stated in them.

An update is a step of the optimizer with the whole total batch; an iteration is what one process
does at a time, and with gradient accumulation several of them make an update. A config that states
no total batch counts in iterations, as mmengine does, and each of them is an update here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmengine.config import ConfigDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from milan_mm.errors import UserError
from milan_mm.run.records.record import ORIGIN
from milan_mm.run.schedule.schedules import iterations_per_update
from milan_mm.text import count

NEW_LENGTH = "new_length"  # in a config's `ORIGIN`: whether `--epochs` has set its length
# Of a run of that length: a warm-up that counts updates, which may have a few all the same.
LONGEST_SHARE, FEWEST = 0.1, 2
LIMIT = f"{100 * LONGEST_SHARE:g} % of the run, or {FEWEST} updates"
_WARM_UPS = ("Warmup", "Linear", "Constant", "QuadraticWarmup")  # LR or Momentum


@dataclass(frozen=True)
class Updates:
    """The length of a run, which is the same for every split of the total batch.

    Attributes:
        total: Updates in all.
        per_epoch: Updates in one pass over the images; 0 when they are fewer than a total batch.
        epochs: None for a run that counts iterations.
        accumulation: Iterations per update.
        batch_per_process: Images per iteration of one process. processes: Their number.
        images: Of the training set.
    """

    total: int
    per_epoch: int
    epochs: int | None
    accumulation: int
    batch_per_process: int
    processes: int
    images: int

    @property
    def total_batch(self) -> int:
        """Images per update."""
        return self.batch_per_process * self.processes * self.accumulation

    def __str__(self) -> str:
        text = count(self.total, "update")
        if self.epochs is None:
            return text
        return f"{text} ({count(self.epochs, 'epoch')} of {self.per_epoch})"

    @classmethod
    def of(cls, runner: Runner) -> "Updates":
        """Those of a run that has its config and its training data; builds the train loop.

        Raises:
            UserError: When an epoch is not a whole number of updates.
        """
        loop = runner.train_loop
        loader, accumulation = loop.dataloader, iterations_per_update(runner.cfg)
        # a batch sampler of a kind of its own need not have a size
        batch, images = getattr(loader.batch_sampler, "batch_size", 1), len(loader.dataset)
        split = (accumulation, batch, runner.world_size, images)
        if not isinstance(loop, EpochBasedTrainLoop):
            per_epoch = images // (batch * runner.world_size * accumulation)
            return cls(loop.max_iters // accumulation, per_epoch, None, *split)
        if len(loader) % accumulation:
            raise UserError(
                f"an epoch of {len(loader)} iterations is not a whole number of updates, each of "
                f"{accumulation} iterations: sample with DefaultSampler (train_dataloader.sampler "
                f"is {type(loader.sampler).__name__}), or use more processes"
            )
        per_epoch = len(loader) // accumulation
        return cls(loop.max_epochs * per_epoch, per_epoch, loop.max_epochs, *split)


def count_updates(runner: Runner) -> Updates:
    """State the lengths of a run's schedulers in updates, before they are built.

    mmengine would take the run's iterations as the default end of a scheduler, and those of an
    epoch to convert one that is given in epochs.

    Raises:
        UserError: See `Updates.of`.
    """
    updates = Updates.of(runner)
    epoch_length = max(updates.per_epoch, 1)
    if runner.param_schedulers is None:
        return updates
    if updates.epochs is not None and (runner.cfg.get(ORIGIN) or {}).get(NEW_LENGTH):
        _limit_warm_ups([*scheduler_settings(runner.param_schedulers)], updates.total)
    runner.param_schedulers = _without_stubs(runner.param_schedulers, epoch_length)
    for scheduler in scheduler_settings(runner.param_schedulers):
        converted = scheduler.get("convert_to_iter_based")
        if converted:
            scheduler.setdefault("epoch_length", epoch_length)
        if not scheduler.get("by_epoch", True):
            scheduler.setdefault("end", updates.total)
        elif updates.epochs is not None:
            scheduler.setdefault("end", updates.epochs)
        elif converted:  # mmengine takes the run for one epoch, however long it is
            # half an update more, since mmengine rounds down
            scheduler.setdefault("end", (updates.total + 0.5) / epoch_length)
    return updates


def scheduler_settings(schedulers: Any) -> Iterator[ConfigDict]:
    """Each scheduler's settings, of one optimizer or of several by name."""
    if isinstance(schedulers, dict) and "type" not in schedulers:
        schedulers = [s for part in schedulers.values() for s in scheduler_settings(part)]
    for settings in [schedulers] if isinstance(schedulers, dict) else schedulers or []:
        if isinstance(settings, dict):
            yield settings


def is_warm_up(scheduler: ConfigDict) -> bool:
    """Whether a scheduler's settings raise a rate from the first update on, and end."""
    rises = scheduler.get("start_factor", 0) < scheduler.get("end_factor", 1.0)
    kind = str(scheduler.type).rpartition(".")[2].removesuffix("LR").removesuffix("Momentum")
    return kind in _WARM_UPS and not scheduler.get("begin") and "end" in scheduler and rises


def _limit_warm_ups(entries: list[ConfigDict], total: int) -> None:
    """Shorten warm-ups that count updates; those that start where one ends follow."""
    in_updates = [entry for entry in entries if not entry.get("by_epoch", True)]
    longest = max(round(LONGEST_SHARE * total), FEWEST)
    for warm_up in filter(is_warm_up, in_updates):
        before = warm_up.end
        if before <= longest:
            continue
        warm_up.end = longest
        for entry in in_updates:
            if entry.get("begin") == before:
                entry.begin = longest


def _without_stubs(schedulers: Any, epoch_length: int) -> Any:
    """Leave out warm-ups that become less than two updates: they would never reach their end."""
    if isinstance(schedulers, dict) and "type" not in schedulers:
        return {name: _without_stubs(part, epoch_length) for name, part in schedulers.items()}
    entries = [schedulers] if isinstance(schedulers, dict) else schedulers
    return [entry for entry in entries if not _is_stub(entry, epoch_length)]


def _is_stub(settings: Any, epoch_length: int) -> bool:
    if not isinstance(settings, dict) or settings.get("begin") or "end" not in settings:
        return False
    if settings.get("convert_to_iter_based"):
        return settings["end"] * epoch_length < 2
    return settings["end"] < 2 and not settings.get("by_epoch", True)
