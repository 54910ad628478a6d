"""Stop the run when too many images cannot be read."""

from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.datasets.loading import LoadImage, check_failures
from milan_mm.datasets.shared import iter_transforms
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Stops when more than 1 % of the images failed, and logs the final count.

    `LoadImage` skips and counts them, and stops by itself when its own process has too many. This
    hook adds up the counts of all processes.

    Args:
        interval: Number of iterations between two checks.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Give the transforms the size of the data set."""
        for transform in self._transforms(runner):
            transform.num_images.values[0] = len(runner.train_dataloader.dataset)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Check every `interval` iterations.

        Raises:
            UserError: Too many images could not be read.
        """
        if self.every_n_train_iters(runner, self.interval):
            self._check(runner)

    def after_train(self, runner: Runner) -> None:
        """Check once more, and log the count when there were failures."""
        reads, failures = self._check(runner)
        if failures:
            runner.logger.warning(f"{failures} of {reads} image reads failed and were skipped")

    def _check(self, runner: Runner) -> tuple[int, int]:
        """Return reads and failures of all processes; raise UserError above the limit."""
        transforms = self._transforms(runner)
        if not transforms:
            return 0, 0
        # a copy, and each table once: wrapped data sets may share transforms
        tables = {id(transform.counts): transform.counts.values for transform in transforms}
        counts = sum(table.sum(dim=0) for table in tables.values())  # (2,)
        all_reduce(counts)
        reads, failures = counts.tolist()
        check_failures(reads, failures, len(runner.train_dataloader.dataset))
        return reads, failures

    def _transforms(self, runner: Runner) -> list[LoadImage]:
        pipeline = iter_transforms(runner.train_dataloader.dataset)
        return [transform for transform in pipeline if isinstance(transform, LoadImage)]
