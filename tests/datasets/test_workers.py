"""Data-loading workers are seeded as mmengine's, and end with their process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from mmengine.runner import Runner
from torch.utils.data import Dataset

from tests.processes import is_running

# A loader whose workers wait to hand on what their parent, which is killed then, has not taken.
KILLED = """
import os, signal, sys, time
import torch
from mmengine.runner import Runner
import milan_mm.datasets.workers

class Boxes(torch.utils.data.Dataset):
    def __len__(self): return 100
    def __getitem__(self, i): return [torch.zeros(9) for _ in range(300)]

loader = Runner.build_dataloader(dict(
    dataset=Boxes(), batch_size=1, num_workers=2, sampler=dict(type="DefaultSampler"),
    worker_init_fn=dict(type="milan_mm.init_worker", seed=0)))
iterator = iter(loader)
print(*(worker.pid for worker in iterator._workers), flush=True)
time.sleep(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Drawing(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        return float(np.random.rand())  # noqa: NPY002 (what transforms draw from)


def _drawn(worker_init: dict) -> list[float]:
    loader = dict(
        dataset=Drawing(), batch_size=1, num_workers=2, sampler=dict(type="DefaultSampler")
    )
    return [v for (v,) in Runner.build_dataloader(loader | worker_init, seed=5)]


def test_workers_draw_the_numbers_of_mmengines_own():
    own = dict(worker_init_fn=dict(type="milan_mm.init_worker", seed=5))
    assert _drawn(own) == _drawn({})


def test_no_worker_outlives_a_process_that_was_killed(tmp_path: Path):
    # into files: an orphan would hold a pipe open
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        done = subprocess.run([sys.executable, "-c", KILLED], stdout=out, stderr=err)
    pids = [int(pid) for pid in (tmp_path / "out").read_text().split()]
    assert done.returncode == -9 and len(pids) == 2, (tmp_path / "err").read_text()
    deadline = time.monotonic() + 10  # longer than torch's own look for the parent
    while (alive := [pid for pid in pids if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive
