"""Work on many files in several processes: in order, with errors, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from milan_mm.upkeep.parallel import CHUNK, map_in_processes
from tests.processes import is_running


def square(number: int) -> int:
    return number**2


def end(number: int) -> None:
    os._exit(1)


def fail(number: int) -> None:
    raise OSError(5, "Input/output error", f"{number}.jpg")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_order(num_workers: int):
    numbers = range(3 * CHUNK)
    assert list(map_in_processes(square, numbers, num_workers, "")) == [n**2 for n in numbers]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_keeps_the_name_of_its_file(num_workers: int):
    with pytest.raises(OSError, match=r"Input/output error: '0.jpg'"):
        list(map_in_processes(fail, [0], num_workers, ""))


def test_a_process_that_is_killed_is_an_error_with_a_remedy():
    with pytest.raises(ValueError, match=r"one of 2 processes was killed.* pass fewer --workers"):
        list(map_in_processes(end, [0], 2, ""))


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path):
    code = (
        "import os, pathlib, sys, time\n"
        "from milan_mm.upkeep.parallel import map_in_processes\n"
        "def note(folder):\n"
        "    pathlib.Path(folder, str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "list(map_in_processes(note, [sys.argv[1]] * 100, 2, ''))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(children := [int(path.name) for path in tmp_path.iterdir()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(map(is_running, children)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
