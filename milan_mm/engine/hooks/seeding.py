"""Augmentation that depends on the seed, the epoch and the sample only.

Usually the random numbers of a transform depend on which process and which worker reads the
sample. With these two parts a run sees the same pixels on any number of processes and workers,
and after a resume.
"""

import random

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.datasets.shared import SharedTable, iter_transforms
from milan_mm.errors import UserError
from milan_mm.registry import HOOKS, TRANSFORMS


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seeds Python's and numpy's generators, from which OpenMMLab's transforms draw.

    Put it first in a pipeline; `SampleSeedHook` tells it the seed and the epoch. torch's generator
    is left alone, because without workers it is the one of the model.
    """

    def __init__(self) -> None:
        self.seed_and_epoch = SharedTable(2)

    def transform(self, results: dict) -> dict:
        """Needs `sample_idx`, which every mmengine data set provides; changes nothing."""
        entropy = (*self.seed_and_epoch.numpy().tolist(), results["sample_idx"])
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (the transforms draw from numpy's global state)
        return results


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Tells `SeedSample` the seed of the run and the epoch, before workers read its images."""

    def before_train(self, runner: Runner) -> None:
        """Refuse a loop without epochs, where each pass would repeat the same augmentation."""
        loop = type(runner.train_loop).__name__
        if self._transforms(runner) and loop != "EpochBasedTrainLoop":
            raise UserError(
                f"milan_mm.SeedSample needs epochs, the loop is {loop}: use "
                "train_cfg.type='EpochBasedTrainLoop' or remove the transform"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        for transform in self._transforms(runner):
            transform.seed_and_epoch.values[0] = runner.seed
            transform.seed_and_epoch.values[1] = runner.epoch

    def _transforms(self, runner: Runner) -> list[SeedSample]:
        pipeline = iter_transforms(runner.train_dataloader.dataset)
        return [transform for transform in pipeline if isinstance(transform, SeedSample)]
