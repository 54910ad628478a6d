"""Processes of a run leave each other, and end."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from torch import nn

from milan_mm.engine.sharding import FullySharded
from milan_mm.errors import UserError
from milan_mm.run.errors import user_errors
from tests.forked import in_processes


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def train(fail: bool) -> None:
    model = FullySharded(nn.Linear(2, 2))
    model.shard()
    if fail:
        raise UserError("of a run")


@pytest.mark.parametrize("fail", [False, True])
def test_no_thread_of_gloo_outlives_the_group_to_abort_the_end_of_the_process(
    tmp_path: Path, fail: bool
):
    def run(_: int) -> tuple[int, int, int]:
        connected = threads()
        with suppress(SystemExit), user_errors():
            train(fail)
        return connected, threads(), threading.active_count()

    ((connected, left, of_python),) = in_processes(1, run, tmp_path)
    assert connected > left == of_python
