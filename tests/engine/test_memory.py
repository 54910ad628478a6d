"""What pretraining without a GPU frees, it keeps."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps memory")
SCRIPT = """
import os
import resource
import numpy as np
import torch
from milan_mm.engine.memory import keep_freed_memory

{call}
np.empty(2**23).fill(1.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    {work}
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ALLOCATE = "np.empty(2**23).fill(1.0)  # 64 MiB, then freed"
LARGEST_PAGE = 2  # MiB


def page_faults(call: str, work: str = ALLOCATE) -> int:
    command = [sys.executable, "-c", SCRIPT.format(call=call, work=work)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout)


def test_freed_memory_is_not_fetched_from_the_system_again():
    assert page_faults("keep_freed_memory()") < 100
    assert page_faults("") >= 5 * 64 / LARGEST_PAGE


def test_a_process_with_a_gpu_is_left_alone():
    pretend = "torch.cuda.is_available = lambda: True; keep_freed_memory()"
    assert page_faults(pretend) >= 5 * 64 / LARGEST_PAGE


def test_workers_do_not_inherit_what_is_free():
    work = f"os.waitpid(os.fork() or os._exit(0), 0); {ALLOCATE}"
    assert page_faults("keep_freed_memory()", work) >= 5 * 64 / LARGEST_PAGE
