"""Hooks that let every random number follow from the seed and from what is being done.

A resumed run then draws what the undisturbed one would have drawn, and no state of a generator has
to be saved.
"""

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from milan_mm.datasets.seeding import NO_EPOCH, SeededBatches, SeedSample, seed_generators
from milan_mm.datasets.shared import iter_transforms
from milan_mm.registry import HOOKS


class SeedHook(Hook):
    """Seeds the generators for every iteration, and for every sample that is read.

    What the model and the main process draw, such as mixup, dropout and the sampling of regions,
    depends on the seed, the update, the part of it and the process. What is drawn for a sample
    depends on the seed and the sample's place in the run, see `SeededBatches`.

    Not for configs: `milan_mm.run.training` adds it to every training.
    """

    priority = "HIGHEST"

    def before_train(self, runner: Runner) -> None:
        """Let the loader's batches be seeded, and others know the seed."""
        # torch's own seed, which masks and dropped paths follow otherwise, is another soon
        runner.message_hub.update_info("seed", runner.seed)
        loader = runner.train_dataloader
        if loader.batch_sampler is None:  # batches of a kind of its own
            return
        if not isinstance(loader.batch_sampler, SeededBatches):
            batches = SeededBatches(loader.batch_sampler, get_rank(), get_world_size())
            # torch forbids it once a loader is built. To build it with these batches would take
            # `batch_size`, `sampler` and `drop_last` from it, which hooks of others read.
            object.__setattr__(loader, "batch_sampler", batches)
        self._start(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch at its iteration, whatever the last one has left."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._start(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seed all generators of this process; the batch has been read."""
        parts = runner.message_hub.get_info("iterations_per_update", 1)
        update, part = divmod(runner.iter, parts)
        seed = seed_generators(runner.seed, update, part, get_rank())
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(seed)  # does not wait for the GPU

    def _start(self, runner: Runner) -> None:
        batches = runner.train_dataloader.batch_sampler
        if isinstance(batches, SeededBatches):
            batches.start(runner.seed, runner.iter)


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Gives `SeedSample` the run's seed and the epoch, before workers read the epoch's images."""

    def before_train_epoch(self, runner: Runner) -> None:
        has_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        for transform in iter_transforms(runner.train_dataloader.dataset):
            if isinstance(transform, SeedSample):
                transform.seed_and_epoch.values[0] = runner.seed
                transform.seed_and_epoch.values[1] = runner.epoch if has_epochs else NO_EPOCH
