"""One training at a time in a work directory; a lock ends with its process."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.run.start import lock
from milan_mm.run.start.lock import FILE, entered, locked, starting


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


def test_a_report_that_asks_who_trains_keeps_no_training_out(tmp_path: Path):
    with locked(tmp_path):
        pass
    if not (pid := os.fork()):
        while True:
            lock.holder(tmp_path)
    try:
        for _ in range(300):
            with locked(tmp_path):
                pass
    finally:
        end(pid)


def test_the_holder_is_named_to_others_and_keeps_its_lock_when_it_asks_itself(tmp_path: Path):
    pid = holder(tmp_path, lambda: lock.holder(tmp_path))
    try:
        assert lock.holder(tmp_path).startswith(f"process {pid} on ")
    finally:
        end(pid)
    assert lock.holder(tmp_path) is None


class FailingStart(Exception):
    """Before training."""


@pytest.mark.parametrize("enter", [locked, entered])
def test_a_run_that_fails_before_training_removes_what_it_made(tmp_path: Path, enter):
    folder = tmp_path / "mine/new/run"
    (tmp_path / "mine").mkdir()
    with pytest.raises(FailingStart), enter(folder, own=["recipe.py"]):
        (folder / "recipe.py").touch()
        raise FailingStart
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


@pytest.mark.parametrize("enter", [locked, entered])
@pytest.mark.parametrize("left", ["epoch_1.pth", "20260101_000000/metrics.json", "notes.txt"])
def test_a_run_that_fails_before_training_leaves_what_others_made(tmp_path: Path, enter, left: str):
    folder = tmp_path / "run"
    with pytest.raises(FailingStart), enter(folder, own=["recipe.py"]):
        (folder / left).parent.mkdir(exist_ok=True)
        (folder / left).touch()
        raise FailingStart
    assert (folder / left).exists()


def test_a_test_that_fails_leaves_a_folder_that_a_training_has_entered_since(tmp_path: Path):
    folder, pid = tmp_path / "run", 0
    try:
        with pytest.raises(FailingStart), entered(folder):
            pid = holder(folder, lambda: None)
            (folder / "held").unlink()
            raise FailingStart
        assert lock.holder(folder).startswith(f"process {pid} on ")
    finally:
        end(pid)


@pytest.mark.parametrize("enter", [locked, entered])
def test_a_folder_that_was_there_is_kept(tmp_path: Path, enter):
    with pytest.raises(FailingStart), enter(tmp_path):
        raise FailingStart
    assert tmp_path.exists()


def test_the_second_of_two_runs_with_one_new_folder_leaves_it_to_the_first(tmp_path: Path):
    folder = tmp_path / "run"
    if not (pid := os.fork()):
        with locked(folder):
            (folder / "held").touch()
            time.sleep(60)
    while not (folder / "held").exists():
        time.sleep(0.01)
    try:
        with pytest.raises(UserError, match="in use by another training"), locked(folder):
            pass
        assert (folder / "held").exists()
    finally:
        end(pid)


def test_runs_that_start_and_fail_in_one_new_folder_never_take_it_from_one_that_has_it(
    tmp_path: Path,
):
    """Each makes, locks, fails and removes; whoever is inside must find its folder."""
    folder, pids = tmp_path / "run", []
    for _ in range(3):
        if not (pid := os.fork()):
            for _ in range(150):
                try:
                    with locked(folder):
                        (folder / FILE).stat()
                        raise FailingStart
                except (FailingStart, UserError):
                    pass
                except BaseException:
                    os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]


def test_runs_that_start_in_one_second_have_folders_of_their_own(tmp_path: Path):
    ends = time.monotonic() + 30
    pids = []
    for _ in range(3):
        if not (pid := os.fork()):
            with starting(tmp_path):  # as mmengine names and makes it
                os.mkdir(tmp_path / time.strftime("%Y%m%d_%H%M%S"))
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3
    assert time.monotonic() < ends
