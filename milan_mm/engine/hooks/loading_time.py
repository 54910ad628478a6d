"""Warn when training waits for its images, which a loss curve does not show."""

import os

from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.registry import HOOKS


@HOOKS.register_module()
class LoadingTimeHook(Hook):
    """Warns once when a large share of the time goes to waiting for the data loader.

    Adds up what mmengine's `IterTimerHook` measures and the log calls `data_time` and `time`. Two
    kinds of iterations are left out: the first ones of each epoch, in which workers start, and the
    first one after a validation, whose time includes that of the metrics.

    Args:
        limit: Share of the time, 0-1, above which it warns.
        interval: Number of iterations between two checks.
        warm_up: Number of iterations at the start of each epoch that do not count.
    """

    priority = "LOW"  # after IterTimerHook

    def __init__(self, limit: float = 0.2, interval: int = 200, warm_up: int = 10) -> None:
        self.limit = limit
        self.interval = interval
        self.warm_up = warm_up
        self._warned = self._after_validation = False
        self._forget()

    def after_val(self, runner: Runner) -> None:
        """Leave out the next iteration."""
        self._after_validation = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Add up, and check every `interval` iterations."""
        logged = runner.message_hub.log_scalars
        if not {"train/data_time", "train/time"} <= logged.keys():
            return  # a loop without IterTimerHook, e.g. of a tool that draws the learning rate
        leave_out = self._after_validation or batch_idx < self.warm_up
        self._after_validation = False
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
            "if cores are idle, read from a faster disk, or, for classification and "
            "pretraining, write smaller copies with tools/shrink_images.py"
        )
