"""A sampler whose epochs are whole numbers of updates."""

from collections.abc import Sized

from mmengine.dataset import DefaultSampler

from milan_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class UpdateSampler(DefaultSampler):
    """mmengine's `DefaultSampler`, cut to `images // total_batch` updates per epoch.

    Update u of an epoch sees images `u * total_batch` to `(u + 1) * total_batch` of the epoch's
    order, whatever the number of processes and of parts. The tail waits for the next epoch's order.

    Args:
        dataset: The images.
        total_batch: Images per update, of all processes and parts together.
        shuffle: Whether each epoch has an order of its own.
        seed: Of the order, the same in all processes; None draws one.
    """

    def __init__(
        self, dataset: Sized, total_batch: int, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(dataset, shuffle, seed, round_up=False)
        # the base class deals out the first `total_size` indices, one to each process in turn
        self.total_size = len(dataset) // total_batch * total_batch
        self.num_samples = self.total_size // self.world_size
