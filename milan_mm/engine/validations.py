"""Is the result of a validation missing in a checkpoint?

A checkpoint is saved before the validation of its weights, and again afterwards only if they are
the best so far. Whatever ends a run in between, the resumed one makes up for it: best checkpoint
and schedules that follow results are those of the undisturbed run.
"""

from bisect import bisect
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

# In the message hub, hence in each checkpoint: updates before the last validation whose result the
# run has, and what earlier versions wrote when a signal had ended a validation.
LAST_VALIDATION, _GIVEN_UP = "last_validation", "validation_is_due"


def note_validation(runner: Runner) -> int:
    """Note that all that is saved from now on has the result of this validation.

    Returns:
        The note before, for `runner.message_hub`, should the validation be given up.
    """
    before = runner.message_hub.get_info(LAST_VALIDATION, 0)
    runner.message_hub.update_info(LAST_VALIDATION, _updates(runner))
    return before


def take_over_validations(runner: Runner) -> bool:
    """Read the note of the checkpoint that a run has started from, or begin with a new one.

    Returns:
        Whether the undisturbed run would validate now.
    """
    hub = runner.message_hub
    last = hub.get_info(LAST_VALIDATION)
    if last is None:  # a new run, or one of an earlier version, which noted those given up alone
        is_due = bool(hub.get_info(_GIVEN_UP, False))
        hub.update_info(_GIVEN_UP, False)
        hub.update_info(LAST_VALIDATION, _updates(runner))
    else:
        is_due = _updates(runner) > last and validates_now(runner)
    return is_due and runner.val_loop is not None


def validates_now(runner: Runner) -> bool:
    """Whether mmengine's loop validates after what has been trained so far."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        if loop.iter != loop.epoch * len(loop.dataloader):  # in the middle of one
            return False
        done, end = loop.epoch, loop.max_epochs
    elif isinstance(loop, IterBasedTrainLoop):
        done, end = loop.iter, loop.max_iters
    else:
        return False
    interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, done + 1) - 1]
    return done >= loop.val_begin and (done % interval == 0 or done == end)


def misses_last(runner: Runner, hub: Mapping[str, Any], updates: int) -> bool:
    """Whether the weights at the end of a run may be the best, and nobody knows.

    Args:
        runner: That has not started.
        hub: Of the checkpoint at the end of the run. updates: Of the run.
    """
    last = (hub.get("runtime_info") or {}).get(LAST_VALIDATION)
    if not isinstance(last, int):  # earlier versions did not note it
        return False
    return last < updates and runner.cfg.get("val_cfg") is not None and saves_best(runner)


def saves_best(runner: Runner) -> bool:
    """Whether the result of a validation decides about a checkpoint."""
    return any(isinstance(hook, CheckpointHook) and hook.save_best for hook in runner.hooks)


def _updates(runner: Runner) -> int:
    return runner.iter // runner.message_hub.get_info("iterations_per_update", 1)
