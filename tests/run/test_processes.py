"""Processes of a run leave each other, and end."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from milan_mm.engine.sharding import FullySharded
from milan_mm.errors import UserError
from milan_mm.run.errors import user_errors
from tests.forked import in_processes


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def train(fsdp: bool, fail: bool) -> None:
    if fsdp:
        model = FullySharded(nn.Linear(2, 2))
        model.shard()
    else:
        model = DistributedDataParallel(nn.Linear(2, 2))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    if fail:
        raise UserError("of a run")


# What ends cleanly in spite of it, and what was tried: benchmarks/reliability/sharded_ends.py.
# Strict, so that this fails with the first torch that frees the group.
keeps_groups = pytest.mark.xfail(
    Version(torch.__version__) >= Version("2.12"),
    reason="caches of DTensor keep the mesh of all that was spread",
    strict=True,
)


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("fsdp", [False, pytest.param(True, marks=keeps_groups)])
def test_no_thread_of_gloo_outlives_the_group_to_abort_the_end_of_the_process(
    tmp_path: Path, fsdp: bool, fail: bool
):
    def run(_: int) -> tuple[int, int, int]:
        connected = threads()
        with suppress(SystemExit), user_errors():
            train(fsdp, fail)
        return connected, threads(), threading.active_count()

    ((connected, left, of_python),) = in_processes(1, run, tmp_path)
    assert connected > left == of_python
