"""No process outlives the one that started it, whatever ended that."""

import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from milan_mm import lifetime
from milan_mm.run.failures import explain
from tests.processes import is_running

# A tool whose workers read on for a minute, in loaders that know nothing of this package.
TOOL = """
import os, sys, time
import torch
from concurrent.futures import ProcessPoolExecutor
from milan_mm.errors import run_interruptible
from milan_mm.lifetime import bind_loaders

class Slow(torch.utils.data.Dataset):
    def __len__(self): return 9
    def __getitem__(self, index):
        print(os.getpid(), flush=True)
        time.sleep(60)

def note(_):
    print(os.getpid(), flush=True)
    time.sleep(60)

def main(argv):
    bind_loaders()
    pool = ProcessPoolExecutor(1)
    pool.submit(note, 0)
    list(torch.utils.data.DataLoader(Slow(), num_workers=1))

run_interruptible(main)
"""
# A tool that started another one.
STARTER = """
import os, subprocess, sys, tempfile
from milan_mm import lifetime
from milan_mm.run.failures import explain
os.environ[lifetime.LAUNCHERS_FOLDER] = tempfile.mkdtemp()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=lifetime.environment())
child.wait()
"""
WAITING = """
import os, time
from milan_mm.errors import run_interruptible

def main(argv):
    print(os.getpid(), os.getpid(), flush=True)
    time.sleep(60)

run_interruptible(main)
"""


class Slow(Dataset):
    """Takes longer than a worker waits before it looks for its parent again."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        time.sleep(0.5)
        return index


def _pids(path: Path, wanted: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(pids := path.read_text().split()) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(pid) for pid in pids]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("program", [[TOOL], [STARTER, WAITING]])
def test_whatever_a_tool_has_started_ends_with_it_and_leaves_no_files(
    tmp_path: Path, program: list[str], number: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    # into a file: an orphan would hold a pipe open
    with (tmp_path / "pids").open("w") as file:
        tool = subprocess.Popen([sys.executable, "-c", *program], stdout=file)
        pids = _pids(tmp_path / "pids", 2)
        assert list((tmp_path / "temporary").iterdir())
        tool.send_signal(number)
        tool.wait()
    deadline = time.monotonic() + 10
    while (alive := [pid for pid in pids if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive and not list((tmp_path / "temporary").iterdir())


class Folder(Dataset):
    """Where a worker has its socket."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> str:
        return multiprocessing.util.get_temp_dir()


def test_workers_have_their_sockets_where_python_removes_them():
    lifetime.bind_loaders()
    loader = DataLoader(Folder(), num_workers=2, batch_size=None)
    assert set(loader) == {multiprocessing.util.get_temp_dir()}


def test_a_fork_that_is_killed_leaves_the_folder_of_its_parent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lifetime, "SECONDS_BETWEEN_LOOKS", 0.05)
    lifetime.bind_loaders()
    reader, writer = os.pipe()  # open until the last process has ended
    if not (child := os.fork()):
        lifetime.bind_loaders()
        context = multiprocessing.get_context("fork")
        context.Process(target=time.sleep, args=(60,), daemon=True).start()
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as ends:
        ends.read()
    assert Path(multiprocessing.util.get_temp_dir()).is_dir()


def test_workers_outlive_the_thread_that_started_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lifetime, "SECONDS_BETWEEN_LOOKS", 0.05)
    loader = DataLoader(Slow(), num_workers=1, worker_init_fn=lambda _: lifetime.end_with_parent())
    found: list = []
    thread = threading.Thread(target=lambda: found.append(iter(loader)))
    thread.start()
    thread.join()
    assert torch.cat(list(found[0])).tolist() == [0, 1]


class Unshareable(Dataset):
    """Its samples cannot be handed on."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> "Unshareable":
        return self

    def __reduce__(self) -> str:
        raise self.error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"), "/dev/shm, "),
        (TypeError("cannot pickle this"), "a data-loading worker was ended"),
    ],
)
def test_a_batch_that_cannot_be_handed_on_is_an_error_and_not_a_hang(error: Exception, line: str):
    loader = DataLoader(
        Unshareable(error),
        num_workers=1,
        batch_size=None,
        worker_init_fn=lambda _: lifetime.begin_worker(),
    )
    with pytest.raises(RuntimeError) as stop:
        list(loader)
    assert explain(stop.value, ".").startswith(line)


def test_a_tool_outlives_the_shell_that_started_it(monkeypatch: pytest.MonkeyPatch):
    watched: list = []
    monkeypatch.setattr(lifetime, "_watch", lambda *given: watched.append(given))
    monkeypatch.setattr(lifetime, "_bound", set())
    monkeypatch.setenv(lifetime.STARTED_BY, "")
    monkeypatch.delenv(lifetime.STARTED_BY)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    lifetime.end_with_launcher()
    assert not watched
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.delenv(lifetime.STARTED_BY)
    lifetime.end_with_launcher()
    assert [parent for parent, _ in watched] == [os.getppid()]
    monkeypatch.setattr(lifetime, "_bound", set())
    lifetime.end_with_launcher()  # in what this tool has started for a hook of the user
    assert len(watched) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_does_not_spoil_the_exit_code_of_a_tool_that_is_done(name: str):
    tool = f"""
import atexit, os, signal
from milan_mm.errors import run_interruptible
atexit.register(lambda: os.kill(os.getpid(), signal.{name}))
run_interruptible(lambda argv: 0)
"""
    assert subprocess.run([sys.executable, "-c", tool]).returncode == 0


FLOOD = """
import sys
from milan_mm.errors import run_interruptible
run_interruptible(lambda _: [print("line") for _ in range(100_000)] and None)
"""


def test_a_reader_that_has_seen_enough_ends_a_tool_without_a_traceback():
    tool = subprocess.Popen(
        [sys.executable, "-c", FLOOD], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert tool.stdout and tool.stderr and tool.stdout.readline() == b"line\n"
    tool.stdout.close()
    assert tool.wait(timeout=60) == 128 + signal.SIGPIPE
    assert tool.stderr.read() == b""
