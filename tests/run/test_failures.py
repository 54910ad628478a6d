"""Failures of the machine are one line with a remedy, defects are not."""

import errno
import os
import re
import shutil
import signal
import socket
import time
from collections import namedtuple

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from milan_mm.engine.checkpoints import AtomicLocalBackend
from milan_mm.run import failures
from milan_mm.run.failures import LOST_PEER, explain, explain_signal

_Usage = namedtuple("_Usage", "total used free")


class Dying(Dataset):
    """Its worker is killed while it reads."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        return index


def test_a_killed_worker_is_named_with_what_helps():
    with pytest.raises(RuntimeError) as stop:
        list(DataLoader(Dying(), num_workers=1))
    assert "a data-loading worker was ended" in explain(stop.value, ".")


def test_a_taken_port_is_named_with_the_variable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError) as stop:
            dist.TCPStore("127.0.0.1", port, 1, is_master=True)
    line = f"port {port} is taken by another program: set PORT to a free one"
    assert explain(stop.value, ".") == line


def test_too_little_shared_memory_is_told_from_other_deaths_of_a_worker():
    text = (
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
        "dataloader's workers are out of shared memory. Please try to raise your shared memory "
        "limit."
    )
    assert re.search(
        r"/dev/shm, [\d,]+ MiB of which .* --shm-size", explain(RuntimeError(text), ".")
    )


def test_semaphores_that_do_not_fit_into_shared_memory_are_not_a_full_disk(monkeypatch):
    usage = {failures._SHM: (2**16, 2**16, 0)}
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: _Usage(*usage.get(path, (2**40, 0, 2**40)))
    )
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as multiprocessing.Queue raises it
    assert explain(full, ".").startswith("/dev/shm, 0 MiB of which 0 are free, is too small")
    full.filename = "epoch_1.pth"
    assert "'epoch_1.pth' was not written, No space left on device (1024.0 GiB" in explain(
        full, "."
    )
    full.errno = errno.EDQUOT  # whose limit is not the disk's
    assert "free)" not in explain(full, ".")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:2", LOST_PEER),
        ("NCCL error: remote process exited or there was a network error", LOST_PEER),
        ("[gloo/...] Timed out waiting 1800000ms for recv operation", "did not answer in time"),
        ("Gloo connectFullMesh failed with [gloo/transport/...]", "set GLOO_SOCKET_IFNAME"),
    ],
)
def test_the_end_of_another_process_is_told_from_its_silence(text: str, line: str):
    assert line in explain(RuntimeError(text), ".")


def test_a_signal_is_named_with_its_usual_cause():
    killed = explain_signal(signal.SIGKILL)
    assert killed.startswith("ended by SIGKILL, often because memory ran out")
    assert explain_signal(signal.SIGTERM) == "ended by SIGTERM"


def test_a_full_gpu_names_the_option_that_keeps_the_total_batch():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
    assert explain(error, ".").startswith("CUDA out of memory: pass --batch-per-gpu N")


def test_a_full_disk_names_the_file_and_the_bytes(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "epoch_1.pth"
    path.write_bytes(b"before")
    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    monkeypatch.setattr("milan_mm.engine.checkpoints.WAITS", ())
    with pytest.raises(OSError, match="No space left") as stop:
        AtomicLocalBackend().put(b"1" * 2**20, path)
    line = explain(stop.value, tmp_path)
    assert line.startswith(f"'{path}' was not written, No space left on device: it needs 1.0 MiB")
    assert line.endswith("make room, then start again")
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == [path.name]
    (tmp_path / "last_checkpoint").touch()
    assert explain(stop.value, tmp_path).endswith("make room, then --resume")


@pytest.mark.parametrize("error", [ValueError("defect"), RuntimeError("shapes"), OSError(104, "")])
def test_a_defect_is_not_explained_away(error: Exception):
    assert explain(error, ".") is None
