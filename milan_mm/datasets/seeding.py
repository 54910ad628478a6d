"""A transform that makes augmentation depend on the seed, the epoch and the sample only.

Usually the random numbers of a transform depend on which process and which worker reads the sample.
With it, and the hook of engine/hooks/seeding.py, a run sees the same pixels on any number of
processes and workers, and after a resume.
"""

import random

import numpy as np
from mmcv.transforms import BaseTransform

from milan_mm.datasets.shared import SharedTable
from milan_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seeds Python's and numpy's generators, from which OpenMMLab's transforms draw.

    Put it first in a pipeline; `SampleSeedHook` sets the seed and the epoch. torch's generator
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
