"""Processes of a run leave each other, and end."""

import os
from pathlib import Path

from torch import nn

from milan_mm.engine.sharding import FullySharded
from milan_mm.run.processes import leave_processes
from tests.forked import in_processes


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_no_thread_of_gloo_outlives_the_group_to_abort_the_end_of_the_process(tmp_path: Path):
    def leave(_: int) -> tuple[int, int]:
        FullySharded(nn.Linear(2, 2)).shard()
        connected = threads()
        leave_processes()
        return connected, threads()

    ((connected, left),) = in_processes(1, leave, tmp_path)
    assert connected > left == 1
