"""What a data-loading worker does when it starts."""

from mmengine.dataset import worker_init_fn
from mmengine.dist import get_rank
from torch.utils.data import get_worker_info

from milan_mm.lifetime import begin_worker
from milan_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def init_worker(worker_id: int, seed: int) -> None:
    """Seed a worker as mmengine does, and let it end with its parent, however that ends.

    torch's workers look for their parent while they wait for work. One that waits to hand on a
    large batch does not: it outlives a parent that was killed, and keeps its memory.

    Args:
        worker_id: From 0. seed: Of the run.
    """
    info = get_worker_info()
    assert info is not None  # in a worker
    worker_init_fn(worker_id, info.num_workers, get_rank(), seed)
    begin_worker()
