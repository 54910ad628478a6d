"""Stop the run when too many images, or their labels, cannot be read."""

from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.datasets.loading import SkipsUnreadable, check_failures
from milan_mm.datasets.shared import count_samples, iter_transforms
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Stops when more than 1 % of the images or of the label files failed; logs the final counts.

    `LoadImage` and `LoadLabels` skip and count them, and stop by themselves when their own process
    has too many. This hook adds up the counts of all processes.

    Args:
        interval: Number of iterations between two checks.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Give the transforms the size of the data set."""
        for transform in self._transforms(runner):
            transform.num_images.values[0] = count_samples(runner.train_dataloader.dataset)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Check every `interval` iterations.

        Raises:
            UserError: Too many files could not be read.
        """
        if self.every_n_train_iters(runner, self.interval):
            self._check(runner)

    def after_train(self, runner: Runner) -> None:
        """Check once more, and log the counts where there were failures."""
        for files, (reads, failures) in self._check(runner).items():
            if failures:
                runner.logger.warning(
                    f"{failures} of {reads} reads of {files} failed and were skipped"
                )

    def _check(self, runner: Runner) -> dict[str, tuple[int, int]]:
        """Reads and failures of all processes, by kind of file; UserError above the limit."""
        found = {}
        transforms = self._transforms(runner)
        for files in sorted({transform.files for transform in transforms}):
            # a copy, and each table once: wrapped data sets may share transforms
            tables = {id(t.counts): t.counts.values for t in transforms if t.files == files}
            counts = sum(table.sum(dim=0) for table in tables.values())  # (2,)
            all_reduce(counts)
            reads, failures = counts.tolist()
            num_images = count_samples(runner.train_dataloader.dataset)
            check_failures(reads, failures, num_images, files)
            found[files] = (reads, failures)
        return found

    def _transforms(self, runner: Runner) -> list[SkipsUnreadable]:
        pipeline = iter_transforms(runner.train_dataloader.dataset)
        return [transform for transform in pipeline if isinstance(transform, SkipsUnreadable)]
