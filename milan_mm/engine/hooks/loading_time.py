"""Says when training waits for its images, which a loss curve does not show."""

import os

from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.registry import HOOKS


@HOOKS.register_module()
class LoadingTimeHook(Hook):
    """Warns once when a large share of the time goes to waiting for the data loader.

    Sums up what mmengine's `IterTimerHook` measures and the log calls `data_time` and `time`. Left
    out are the first iterations of each epoch, in which workers start, and those behind a
    validation, whose metrics they would be charged for.

    Args:
        limit: Share of the time from which on it warns.
        interval: Iterations that are summed up before each look.
        warm_up: Iterations at the start of each epoch that do not count.
    """

    priority = "LOW"  # after IterTimerHook

    def __init__(self, limit: float = 0.2, interval: int = 200, warm_up: int = 10) -> None:
        self.limit = limit
        self.interval = interval
        self.warm_up = warm_up
        self._warned = self._behind_validation = False
        self._forget()

    def after_val(self, runner: Runner) -> None:
        """Leave out the next iteration."""
        self._behind_validation = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Add up, and look every `interval` iterations."""
        leave_out = self._behind_validation or batch_idx < self.warm_up
        self._behind_validation = False
        if self._warned or leave_out:
            return
        self._count += 1
        self._waited += runner.message_hub.get_scalar("train/data_time").current()
        self._passed += runner.message_hub.get_scalar("train/time").current()
        if self._count < self.interval:
            return
        if self._waited > self.limit * self._passed:
            runner.logger.warning(self._sentence(runner.train_dataloader.num_workers))
            self._warned = True
        self._forget()

    def _forget(self) -> None:
        self._count, self._waited, self._passed = 0, 0.0, 0.0

    def _sentence(self, num_workers: int) -> str:
        return (
            f"training waits for its images: {self._waited / self._passed:.0%} of the time of "
            f"{self._count} iterations. {num_workers} workers load them for this process, which "
            f"may use {len(os.sched_getaffinity(0))} cores: raise train_dataloader.num_workers "
            "where cores are idle, read from a faster disk, or, for classification and "
            "pretraining, write smaller copies with tools/shrink_images.py"
        )
