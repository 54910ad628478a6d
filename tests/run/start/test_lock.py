"""One training at a time in a work directory; a lock ends with its process."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.run.start.lock import locked


def holder(folder: Path, then: Callable[[], object]) -> int:
    """A process that holds the lock of a folder and then does something; returns its id."""
    if pid := os.fork():
        for _ in range(500):
            if (folder / "held").exists():
                return pid
            time.sleep(0.01)
        raise AssertionError("the other process did not lock")
    with locked(folder):
        then()
        (folder / "held").touch()
        time.sleep(60)
    os._exit(0)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_training_in_a_work_directory_is_refused_with_the_first(tmp_path: Path):
    pid = holder(tmp_path, lambda: None)
    try:
        message = rf"in use by another training \(process {pid} on "
        with pytest.raises(UserError, match=message), locked(tmp_path):
            pass
        with locked(tmp_path / "other"):
            pass
    finally:
        end(pid)


def test_a_killed_training_whose_worker_lives_on_locks_nobody_out(tmp_path: Path):
    worker = tmp_path / "worker"

    def start_worker() -> None:
        if not os.fork():
            worker.write_text(str(os.getpid()))
            time.sleep(60)
            os._exit(0)
        while not worker.exists() or not worker.read_text():
            time.sleep(0.01)

    end(holder(tmp_path, start_worker))
    try:
        with locked(tmp_path):
            pass
    finally:
        os.kill(int(worker.read_text()), signal.SIGKILL)


def test_the_other_processes_of_a_run_do_not_lock(tmp_path: Path, monkeypatch):
    pid = holder(tmp_path, lambda: None)
    monkeypatch.setenv("RANK", "1")
    try:
        with locked(tmp_path):
            pass
    finally:
        end(pid)
