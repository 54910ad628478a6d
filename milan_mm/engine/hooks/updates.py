"""Learning-rate schedules that count updates, so that they do not depend on how a batch is split.

An update is a step of the optimizer with the whole total batch. With gradient accumulation an
update takes several iterations; mmengine's own hook would step the schedulers in each of them.
"""

from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from milan_mm.engine.unwrapping import optim_wrappers
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class UpdateSchedulerHook(ParamSchedulerHook):
    """Steps the schedulers that do not count epochs once per update, after its last iteration.

    `milan_mm.run.schedule.batch` puts it in the place of `ParamSchedulerHook`, and
    `milan_mm.run.schedule.schedules.count_updates` states the schedulers' lengths in updates.
    """

    def before_train(self, runner: Runner) -> None:
        """Let others know how many iterations make an update, e.g. the mask generators."""
        settings = runner.cfg.get("optim_wrapper") or {}
        iterations = settings.get("accumulative_counts", 1)
        runner.message_hub.update_info("iterations_per_update", iterations)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Do nothing while gradients are being accumulated."""
        if has_updated(runner.optim_wrapper):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)


def has_updated(optim_wrapper: OptimWrapper) -> bool:
    """Whether the iteration that has just run ended in a step of the optimizer, or of all."""
    return all(wrapper.should_update() for wrapper in optim_wrappers(optim_wrapper))
