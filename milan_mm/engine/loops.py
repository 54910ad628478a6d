"""Training loops that start where an interrupted run has stopped, and read nothing twice.

`SeedHook` has made the loader's batch sampler a `SeededBatches`, which leaves out indices before
any image is read.
"""

from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from milan_mm.datasets.seeding import next_pass
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
        if done:
            self.dataloader.batch_sampler.skip(done)
        for idx, data_batch in enumerate(self.dataloader, start=done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


@LOOPS.register_module()
class ResumedIterLoop(IterBasedTrainLoop):
    """mmengine's loop, which goes on at its iteration whatever the sampler.

    mmengine's own reads all earlier batches where a batch sampler groups images by their shape, as
    those of mmdet do, or where the sampler ends.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dataloader_iterator = EndlessBatches(self.dataloader)


class EndlessBatches:
    """The batches of a loader, pass after pass, in place of mmengine's iterator."""

    def __init__(self, dataloader: DataLoader) -> None:
        self._dataloader = dataloader
        self._iterator: Any = None  # workers start with the first batch

    def __iter__(self) -> "EndlessBatches":
        return self

    def __next__(self) -> Any:
        if self._iterator is not None:
            try:
                return next(self._iterator)
            except StopIteration:
                next_pass(self._dataloader.batch_sampler)
        self._iterator = iter(self._dataloader)
        return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        """Leave out the first batches of the run; mmengine's loop calls it."""
        self._dataloader.batch_sampler.skip(num_iters)  # type: ignore[union-attr]
