"""What a process without a GPU frees, it keeps."""

import subprocess
import sys

import pytest

pytest.importorskip("resource")
SCRIPT = """
import resource
import numpy as np
from milan_mm.engine.memory import keep_freed_memory
{call}
np.empty(2**23).fill(1.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.empty(2**23).fill(1.0)  # 64 MiB, then freed
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(call: str) -> int:
    command = [sys.executable, "-c", SCRIPT.format(call=call)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told to keep memory")
def test_freed_memory_is_not_fetched_from_the_system_again():
    assert page_faults("keep_freed_memory()") < 100
    assert page_faults("") >= 5 * 32  # of at most 2 MiB each
