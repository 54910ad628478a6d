"""What training without a GPU frees, it keeps."""

import subprocess
import sys

import pytest

from milan_mm.engine import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps memory")
# In a process of its own, since the setting cannot be undone, and without the seconds that torch's
# import takes: all that is asked of it is whether there is a GPU.
SETTING = """
import os
import resource
import runpy
import sys
from types import SimpleNamespace
import numpy as np

sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: {gpu}))
keep_freed_memory = runpy.run_path({path!r})["keep_freed_memory"]

def allocate():
    np.empty(2**23).fill(1.0)  # 64 MiB, then freed
"""
PAGE_FAULTS = """
allocate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    allocate()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
SHARED_WITH_A_WORKER = """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 2**20

start = resident()
allocate()
print(resident() - start, flush=True)
if os.fork() == 0:
    print(resident() - start, flush=True)
    os._exit(0)
os.wait()
"""
LARGEST_PAGE = 2  # MiB
FETCHED_ANEW = 5 * 64 / LARGEST_PAGE  # faults at least


def run(work: str, call: str = "keep_freed_memory()", gpu: bool = False) -> list[int]:
    script = SETTING.format(path=memory.__file__, gpu=gpu) + call + work
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    return [int(number) for number in done.stdout.split()]


def test_freed_memory_is_not_fetched_from_the_system_again():
    assert run(PAGE_FAULTS)[0] < 100
    assert run(PAGE_FAULTS, call="")[0] >= FETCHED_ANEW


def test_a_process_with_a_gpu_is_left_alone():
    assert run(PAGE_FAULTS, gpu=True)[0] >= FETCHED_ANEW


def test_workers_do_not_inherit_what_is_free():
    kept, inherited = run(SHARED_WITH_A_WORKER)  # MiB
    assert kept >= 60
    assert inherited < 10
