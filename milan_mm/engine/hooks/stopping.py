"""The hook that lets a training end when a signal asks for it, and saves by the clock.

Whatever happens between two updates can be resumed to the bit. So a signal is only noted when it
comes. At the end of the update all processes agree on it, save one checkpoint, and end together.
"""

import math
import signal
from time import monotonic

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from milan_mm.engine.agreement import Agreement
from milan_mm.engine.extra_checkpoints import ExtraCheckpoints
from milan_mm.engine.hooks.updates import has_updated
from milan_mm.engine.validations import (
    LAST_VALIDATION,
    note_validation,
    saves_best,
    take_over_validations,
)
from milan_mm.errors import INTERRUPTED, STOPPED, Stopped
from milan_mm.signals import StopSignals

_BATCHES_OF_VALIDATION = 20  # between two questions whether to stop, on several processes
_SAVE = 1  # what a process asks of all; a signal is its number + 1, so that it counts more


class StoppingHook(Hook):
    """Ends a training that got a signal, and saves whenever the last checkpoint is too old.

    A signal in a validation gives it up, and the resumed run begins with it, as after any other end
    before the result was saved. One in the last update lets the training finish. Where the config
    has no `CheckpointHook`, nothing is saved.

    It costs an all-reduce of 8 bytes per update on several processes, and a look at the clock.

    Not for configs: `milan_mm.run.training` adds it.

    Args:
        signals: Notes them.
        save_minutes: Longest time between two checkpoints, by the main process's clock; 0 leaves
            it to the config.
        how: To go on, for the line at the end.
    """

    priority = "LOWEST"  # after CheckpointHook, whose checkpoint may be enough

    def __init__(self, signals: StopSignals, save_minutes: float, how: str) -> None:
        self.signals = signals
        self.how = how
        self.seconds = save_minutes * 60 or math.inf
        self.agreement = Agreement()
        self.checkpoints: ExtraCheckpoints | None = None
        self._signal = 0  # on which all processes have agreed
        self._has_asked = self._is_due = False  # for a checkpoint by the clock
        self._clock = 0.0  # when the last checkpoint was saved
        self._newest = ""  # checkpoint of the CheckpointHook
        self._saved = (-1, "")  # iterations in the newest checkpoint of this process, and its path

    def before_train(self, runner: Runner) -> None:
        """Start to note signals, and make up for a validation that the checkpoint misses."""
        hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        self.checkpoints = ExtraCheckpoints(hook) if hook else None
        self._newest = (hook.last_ckpt if hook else None) or ""
        self._clock = monotonic()
        self.signals.begin()
        if take_over_validations(runner):
            runner.logger.info("begins with the validation whose result is not in the checkpoint")
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        if self._signal:
            self._stop(runner, runner.iter, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if self._signal:
            self._stop(runner, runner.iter, runner.epoch)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Once per update: agree, then save or end, unless an epoch or the run is about to end.

        What belongs to an epoch, its checkpoint too, comes after its last update. So the next
        chance is taken there: before the validation, or before the next epoch.
        """
        self._note_regular(runner, runner.iter + 1)
        if not has_updated(runner.optim_wrapper):
            return
        self._take(self.agreement.exchange(self._request()))
        if self._ends_something(runner, batch_idx):
            return
        if self._signal:
            self._stop(runner, runner.iter + 1, runner.epoch)
        elif self._is_due and self.checkpoints:
            path = self.checkpoints.save(runner, runner.iter + 1, runner.epoch)
            self._note_saved(runner.iter + 1, path)
            runner.logger.info(f"{self.seconds / 60:g} minutes have passed: saved {path}")

    def after_train_epoch(self, runner: Runner) -> None:
        self._note_regular(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._note_regular(runner, runner.iter)  # with the best so far

    def before_val_epoch(self, runner: Runner) -> None:
        """End before a validation, or count the batches that all processes have."""
        if self._signal:
            self._stop(runner, runner.iter, runner.epoch, validates=True)
        self._last_validation = note_validation(runner)
        batches = torch.tensor(len(runner.val_loop.dataloader))
        all_reduce(batches, op="min")
        self._batches = int(batches)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: object = None,
    ) -> None:
        """Agree now and then; predictions are copied from the GPU in each batch anyway."""
        if batch_idx >= self._batches:
            return
        if batch_idx + 1 == self._batches:
            self._batches = 0  # mmpretrain's EMAHook may go on, with other weights
        if (batch_idx + 1) % (_BATCHES_OF_VALIDATION if get_world_size() > 1 else 1):
            return
        self._take(self.agreement.exchange(self._request(saving=False)))
        self._take(self.agreement.latest())
        if self._signal:
            runner.message_hub.update_info(LAST_VALIDATION, self._last_validation)
            self._stop(runner, runner.iter, runner.epoch, validates=True)

    def _request(self, saving: bool = True) -> int:
        """What this process asks of all."""
        if self.signals.number:
            return self.signals.number + 1
        is_old = monotonic() - self._clock >= self.seconds
        if saving and is_old and is_main_process() and not self._has_asked:
            self._has_asked = True
            return _SAVE
        return 0

    def _take(self, answer: int) -> None:
        """Note what the processes have agreed on."""
        if answer > _SAVE:
            self._signal = answer - 1
        elif answer == _SAVE:
            self._is_due = True

    def _note_regular(self, runner: Runner, iterations: int) -> None:
        """Note that the CheckpointHook has saved, if it has."""
        newest = self.checkpoints.hook.last_ckpt if self.checkpoints else None
        if self.checkpoints and newest and newest != self._newest:
            self._newest = newest
            self._note_saved(iterations, self._newest)
            self.checkpoints.remove_all(runner)

    def _note_saved(self, iterations: int, path: str) -> None:
        self._saved, self._clock = (iterations, path), monotonic()
        self._has_asked = self._is_due = False

    def _ends_something(self, runner: Runner, batch_idx: int) -> bool:
        """Whether an epoch, or the run, or the time until a validation ends with this iteration."""
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            return self.end_of_epoch(loop.dataloader, batch_idx)
        return runner.iter + 1 == loop.max_iters or (
            runner.val_loop is not None and (runner.iter + 1) % loop.val_interval == 0
        )

    def _stop(self, runner: Runner, iterations: int, epoch: int, validates: bool = False) -> None:
        """Save what is not saved yet, and end; all processes do so together.

        Raises:
            Stopped: Always.
        """
        is_complete = iterations >= runner.max_iters
        if validates:
            for hook in runner.hooks:  # which validates with other weights than it trains
                if isinstance(hook, EMAHook) and getattr(hook, "evaluate_on_ema", True):
                    EMAHook.after_val_epoch(hook, runner)  # mmpretrain's own would validate again
        name = signal.Signals(self._signal).name
        per_update = runner.message_hub.get_info("iterations_per_update", 1)
        where = f"{iterations // per_update} of {runner.max_iters // per_update} updates"
        done = f"stopped by {name} after {where}"
        if self.checkpoints is None:
            message = f"{done}; nothing is saved, since the config has no CheckpointHook"
            raise Stopped(128 + self._signal, message if is_main_process() else "")
        saved, path = self._saved
        if saved != iterations or (validates and not is_complete):
            again = saved == iterations and path == self._newest
            path = self.checkpoints.save(runner, iterations, epoch, again)
        runner.visualizer.close()
        if is_complete:
            judge = (
                f"{self.how} makes up for it" if saves_best(runner) else "tools/test.py judges it"
            )
            rest = f"the training is complete, its last validation is not: {judge}"
        else:
            rest = f"{self.how} goes on from there"
        message = f"{done}: saved {path}; {rest}"
        runner.logger.info(message)
        barrier()  # the main process has saved
        code = INTERRUPTED if self._signal == signal.SIGINT else STOPPED
        raise Stopped(code, message if is_main_process() else "")
