"""Several connected processes in a test, which start in milliseconds: they are forked."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from milan_mm.run.processes import leave_processes


def in_processes(number: int, function: Callable[[int], Any], folder: Path) -> list[Any]:
    """What a function returns in each of several processes, which gloo connects.

    Args:
        function: Called with the rank. It must not use the threads of torch before.
        folder: An empty one, where they meet.

    Raises:
        AssertionError: When one fails; its traceback is on stderr.
    """
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def run(rank: int) -> None:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=number)
        results.put((rank, function(rank)))
        leave_processes()

    processes = [context.Process(target=run, args=(rank,)) for rank in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * number
    return [value for _, value in sorted(results.get() for _ in processes)]
