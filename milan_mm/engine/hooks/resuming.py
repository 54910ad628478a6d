"""A checkpoint in the terms of the run that goes on from it."""

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from milan_mm.engine.unwrapping import unwrapped
from milan_mm.errors import UserError

_OWN_PATHS = ("best_ckpt", "last_ckpt")


class ResumeHook(Hook):
    """Converts what a checkpoint counts in iterations, before mmengine takes it over.

    An update is a step of the optimizer with the whole total batch. Another number of processes, or
    of images per process, splits it into another number of iterations. The schedulers count
    updates, so their state is right as it is, unless the run has become longer or shorter.

    Not for configs: `milan_mm.run.start.resume` adds it.

    Args:
        updates: Steps of the optimizer until the checkpoint was saved.
        accumulation: Iterations per update, now.
        updates_per_epoch: None for a run that counts iterations.
        replay: Whether to take the rates from this run's schedule instead of the checkpoint's.
        ends_epoch: Whether an epoch ended with the last update, and schedulers that count epochs
            were not stepped yet when the checkpoint was saved.
        last_lr: Rate of the last update, for the log; None where it is not known.
    """

    priority = "VERY_HIGH"

    def __init__(
        self,
        updates: int,
        accumulation: int,
        updates_per_epoch: int | None,
        replay: bool,
        ends_epoch: bool = False,
        last_lr: float | None = None,
    ) -> None:
        self.updates = updates
        self.accumulation = accumulation
        self.updates_per_epoch = updates_per_epoch
        self.replay = replay
        self.ends_epoch = ends_epoch
        self.last_lr = last_lr

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Set epoch, iteration, schedules and paths, in place."""
        meta, hub = checkpoint["meta"], checkpoint["message_hub"]
        info = hub["runtime_info"]
        meta["iter"] = self.updates * self.accumulation
        meta["epoch"] = self.updates // self.updates_per_epoch if self.updates_per_epoch else 0
        info.update({name: meta[name] for name in ("iter", "epoch") if name in info})
        _move_paths(hub, runner.work_dir)
        if self.replay:
            before = _rate(checkpoint["optimizer"])
            replay_schedule(runner, self.updates, self.updates_per_epoch)
            _take_schedule(runner, checkpoint)
            now = _rate(checkpoint["optimizer"])
            if not math.isclose(before, now, rel_tol=1e-6):
                end = "" if self.last_lr is None else f", and ends at {self.last_lr:.4g}"
                runner.logger.info(
                    f"the learning rate goes on at {now:.4g}, as a run of this length has it after "
                    f"{self.updates} updates{end}; in the checkpoint it is {before:.4g}"
                )

    def before_train(self, runner: Runner) -> None:
        """Do what was left to do in the epoch; mmengine has taken over the states."""
        if self.ends_epoch:
            ParamSchedulerHook().after_train_epoch(runner)


class InitialWeightsHook(Hook):
    """Replaces tensors of a checkpoint by the model's own, before mmengine fills it from the file.

    The file then has all tensors, so mmengine does not warn that some are missing.

    Not for configs: `milan_mm.run.start.resume` adds it.

    Args:
        left_out: Their names; those of the model keep their initial values.
    """

    priority = "VERY_HIGH"

    def __init__(self, left_out: list[str]) -> None:
        self.left_out = left_out

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace them, in place."""
        model = unwrapped(runner.model)
        own = model.state_dict()
        checkpoint["state_dict"].update({name: own[name] for name in self.left_out})


def replay_schedule(runner: Runner, updates: int, updates_per_epoch: int | None) -> None:
    """Step the schedulers of a run that has not started, as its first updates would have.

    mmengine's schedulers compute a rate from the one before, so there is no shorter way.

    Raises:
        UserError: For schedulers that depend on the results of validations.
    """
    schedulers = list(_schedulers(runner))
    for scheduler in schedulers:
        if getattr(scheduler, "need_val_args", False):
            raise UserError(
                f"{type(scheduler).__name__} follows the results of validations, so the rate of a "
                "longer run is not known in advance: resume without --epochs and --iters"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of schedules that run ahead of the optimizer
        for done in range(1, updates + 1):
            ends_epoch = updates_per_epoch and done % updates_per_epoch == 0
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            for scheduler in schedulers:
                if scheduler.by_epoch and ends_epoch:
                    scheduler.step()


def _schedulers(runner: Runner) -> Iterator[Any]:
    if isinstance(runner.optim_wrapper, OptimWrapperDict):
        raise UserError("several optimizers in one run: resume it without --epochs and --iters")
    yield from runner.param_schedulers or []


def _take_schedule(runner: Runner, checkpoint: dict) -> None:
    """Write the schedulers' states, and the values that they set, into a checkpoint."""
    checkpoint["param_schedulers"] = [s.state_dict() for s in runner.param_schedulers or []]
    names = {scheduler.param_name for scheduler in runner.param_schedulers or []}
    if "momentum" in names:
        names.add("betas")  # of which the first is Adam's momentum
    for saved, group in zip(
        _groups(checkpoint["optimizer"]), runner.optim_wrapper.param_groups, strict=True
    ):
        saved.update({name: group[name] for name in names if name in group})


def _groups(optimizer: dict) -> list[dict]:
    """Those of the optimizer, and the one that mmengine keeps for the log."""
    base = optimizer.get("base_param_settings")
    return [*optimizer["param_groups"], *([base] if base else [])]


def _rate(optimizer: dict) -> float:
    """That of the optimizer itself, without the factors of its groups."""
    return _groups(optimizer)[-1]["lr"]


def _move_paths(hub: dict, work_dir: str) -> None:
    """Let the run own the checkpoints of its own folder alone.

    mmengine removes the best checkpoint so far when there is a better one, by the path that is
    recorded here: of a folder that was copied, or of another run's.
    """
    info = hub["runtime_info"]
    for name in [n for n in info if n.startswith(_OWN_PATHS) and isinstance(info[n], str)]:
        here = Path(work_dir, Path(info[name]).name)
        if here.is_file():
            info[name] = str(here)
        else:
            del info[name]
            hub["resumed_keys"].pop(name, None)
