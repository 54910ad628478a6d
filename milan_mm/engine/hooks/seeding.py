"""The hook that passes seed and epoch to the transform `SeedSample` (datasets/seeding.py)."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from milan_mm.datasets.seeding import SeedSample
from milan_mm.datasets.shared import iter_transforms
from milan_mm.errors import UserError
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Gives `SeedSample` the run's seed and the epoch, before workers read the epoch's images."""

    def before_train(self, runner: Runner) -> None:
        """Raise UserError for a loop without epochs, where every pass would look the same."""
        loop = runner.train_loop
        if self._transforms(runner) and not isinstance(loop, EpochBasedTrainLoop):
            raise UserError(
                f"milan_mm.SeedSample needs epochs, the loop is {type(loop).__name__}: use "
                "train_cfg.type='EpochBasedTrainLoop' or remove the transform"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        for transform in self._transforms(runner):
            transform.seed_and_epoch.values[0] = runner.seed
            transform.seed_and_epoch.values[1] = runner.epoch

    def _transforms(self, runner: Runner) -> list[SeedSample]:
        pipeline = iter_transforms(runner.train_dataloader.dataset)
        return [transform for transform in pipeline if isinstance(transform, SeedSample)]
