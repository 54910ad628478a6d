"""Speed and progress in the log: images per second, the share of waiting, the update."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.engine.hooks.log_values import log_value, logs_now
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class SpeedHook(Hook):
    """Logs what the time went to since the last line of the log.

    - `images_per_second`: images that all processes together learnt from.
    - `waiting`: share of the time, 0-1, in which this process waited for its images.
    - `update`: steps of the optimizer so far, where a step takes several iterations. The log and
      all trackers count iterations; runs that split their batch differently agree in this number.

    Left out is the iteration after a validation, whose time includes that of the metrics.
    """

    def __init__(self) -> None:
        self._after_validation = False
        self._forget()

    def after_val(self, runner: Runner) -> None:
        """Leave out the next iteration."""
        self._after_validation = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Add up, and log when it is time."""
        hub = runner.message_hub
        if not {"train/data_time", "train/time"} <= hub.log_scalars.keys():
            return  # a loop without IterTimerHook
        if not self._after_validation:
            self._count += 1
            self._waited += hub.get_scalar("train/data_time").current()
            self._passed += hub.get_scalar("train/time").current()
        self._after_validation = False
        if self._count and logs_now(runner, batch_idx):
            self._log(runner)
            self._forget()

    def _log(self, runner: Runner) -> None:
        # a batch sampler of a kind of its own need not have a size
        batch = getattr(runner.train_dataloader.batch_sampler, "batch_size", 1)
        images = self._count * batch * runner.world_size
        passed = max(self._passed, 1e-9)
        log_value(runner, "images_per_second", images / passed)
        log_value(runner, "waiting", min(self._waited / passed, 1.0))
        parts = runner.message_hub.get_info("iterations_per_update", 1)
        if parts > 1:
            log_value(runner, "update", (runner.iter + 1) // parts)

    def _forget(self) -> None:
        self._count, self._waited, self._passed = 0, 0.0, 0.0
