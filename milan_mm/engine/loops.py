"""A training loop that can start in the middle of an epoch."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from mmengine.runner import EpochBasedTrainLoop

from milan_mm.registry import LOOPS


@LOOPS.register_module()
class ResumedEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop, which goes on with the images that an interrupted epoch has not seen.

    mmengine's own would begin the epoch again, and count its iterations twice.
    """

    def run_epoch(self) -> None:
        """Run the epoch, or what is left of it."""
        done = self._iter - self._epoch * len(self.dataloader)
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, data_batch in enumerate(self._without_first(done), start=done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _without_first(self, batches: int) -> Iterable[Any]:
        if not batches:
            return self.dataloader
        sampler = self.dataloader.sampler
        if hasattr(sampler, "skip"):
            sampler.skip(batches * self.dataloader.batch_size)
            return self.dataloader
        return islice(self.dataloader, batches, None)  # reads the images all the same
