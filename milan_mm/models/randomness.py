"""Random numbers of a training run that do not depend on how its batch is split.

mmengine seeds every process alike, and each draws for its own part of a batch. So the numbers of an
image would depend on how many processes and parts there are, and with several processes the same
numbers would serve several images.
"""

from collections.abc import Callable

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor


def in_run() -> bool:
    """Whether a training loop counts its iterations."""
    return MessageHub.get_current_instance().get_info("iter") is not None


def numbers_of_images(
    fill: Callable[..., Tensor], batch_size: int, size: int, device: torch.device, *purpose: int
) -> Tensor:
    """Numbers that depend on seed, update and the image's place in the total batch only.

    Every process draws them for the total batch and takes its own rows, so they are the same for
    every split, and a resumed run continues the sequence. Outside of a run they follow torch's
    global state.

    Args:
        fill: Method of a tensor that draws, e.g. `Tensor.exponential_`.
        batch_size: B, images that this process has now. size: Numbers per image.
        purpose: Sets of numbers that are to be independent have another one.

    Returns:
        (B, size) float32.
    """
    hub = MessageHub.get_current_instance()
    # the hub knows those of a run of which one process is replayed
    rank, world_size = (
        hub.get_info("rank", get_rank()),
        hub.get_info("world_size", get_world_size()),
    )
    step = hub.get_info("iter")
    if step is None:
        step = int(torch.randint(2**31, ()))
    num_parts = hub.get_info("iterations_per_update", 1)  # UpdateSchedulerHook counts them
    update, part = divmod(step, num_parts)
    # mixed, because torch's CPU generator uses only the lower 32 bits of its seed
    seed = hub.get_info("seed", torch.initial_seed())  # SeedHook knows that of the run
    entropy = np.random.SeedSequence((seed, update, *purpose))
    generator = torch.Generator(device)
    generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
    shape = (num_parts, batch_size, world_size, size)
    numbers = fill(torch.empty(shape, device=device), generator=generator)
    # the sampler deals out images to the processes in turn
    return numbers[part, :, rank]
