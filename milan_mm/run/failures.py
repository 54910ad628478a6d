"""Failures of the machine, in one line with a remedy: full disks, lost folders, killed workers."""

import errno
import re
import shutil
import signal
from pathlib import Path

import torch

from milan_mm.files import free_bytes
from milan_mm.text import bytes_of

LOST_PEER = "another process of the run ended, whose message says why"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNREACHABLE = "bring its disk back, then --resume"
_SYSTEM = {
    errno.EROFS: "make it writable, or choose another --work-dir",
    errno.EACCES: "give yourself access, or choose another folder",
    errno.EIO: _UNREACHABLE,
    errno.ENOTCONN: _UNREACHABLE,
    errno.ESTALE: _UNREACHABLE,
}
_SHM = Path("/dev/shm")
_SMALL_SHM = (
    "/dev/shm, {shm}, is too small for the data-loading workers: enlarge it (docker run "
    "--shm-size=8g, or --ipc=host), or pass --cfg-options train_dataloader.num_workers=0"
)
# What torch's messages contain -> what helps. The first row that fits is taken.
_REMEDIES = (
    (
        (
            "out of shared memory",
            "shared memory(shm)",
            "shared memory limit",
            "shared memory segment",
            "</torch_",
        ),
        _SMALL_SHM,
    ),
    (
        ("DataLoader worker (pid",),
        "a data-loading worker was ended from outside, often because memory ran out: pass "
        "--cfg-options train_dataloader.num_workers=N with a smaller N, then --resume",
    ),
    (
        ("EADDRINUSE",),
        "port {port} is taken by another program: set PORT to a free one",
    ),
    (
        ("Timed out waiting", "collective operation timeout", "Application timeout caused pair"),
        "another process did not answer in time: it hangs, or works on something that takes "
        "longer; --cfg-options env_cfg.dist_cfg.timeout=SECONDS sets how long is waited (1800)",
    ),
    (
        ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process"),
        LOST_PEER,
    ),
    (
        ("Gloo connectFullMesh", "gloo/transport"),
        "the processes did not reach each other: set GLOO_SOCKET_IFNAME to the network interface "
        "that the machines share, as `ip address` names it",
    ),
)
_SIGNALS = {
    signal.SIGKILL: "often because memory ran out (`dmesg` then says so): fewer "
    "train_dataloader.num_workers or a smaller --batch-per-gpu take less; then --resume",
    signal.SIGBUS: "often because /dev/shm is full: fewer train_dataloader.num_workers take less",
    signal.SIGABRT: "by a library, whose message is above",
    signal.SIGSEGV: "a crash in a compiled library: `milan-mm doctor` calls each of them",
    signal.SIGALRM: "because it could not end by itself",
}


def explain(error: BaseException, folder: str | Path) -> str | None:
    """What happened and what helps; None for an error that may be a defect.

    Args:
        error: Of the system or of torch.
        folder: Where the run writes.
    """
    if isinstance(error, OSError):
        return _explain_system(error, Path(folder))
    if isinstance(error, torch.OutOfMemoryError):
        what = str(error).split(". ")[0]
        return f"{what}: pass --batch-per-gpu N with a smaller N, the total batch stays what it is"
    if isinstance(error, RuntimeError):
        # torch's loader says what ended its worker in the cause only
        text = f"{error} {error.__cause__ or ''}"
        line = next((line for marks, line in _REMEDIES if any(m in text for m in marks)), None)
        port = re.search(r"port: (\d+)", text)
        return line.format(shm=_room(_SHM), port=port[1] if port else "") if line else None
    return None


def explain_signal(number: int) -> str:
    """How a process ended that a signal has ended, and what helps."""
    hint = _SIGNALS.get(signal.Signals(number))
    return f"ended by {signal.Signals(number).name}" + (f", {hint}" if hint else "")


def _room(folder: Path) -> str:
    if not folder.is_dir():
        return "which does not exist"
    usage = shutil.disk_usage(folder)
    return f"{usage.total / 2**20:,.0f} MiB of which {usage.free / 2**20:,.0f} are free"


def _explain_system(error: OSError, folder: Path) -> str | None:
    """Of a path; errors of sockets have none."""
    place = Path(error.filename) if error.filename else folder
    if error.errno in _FULL:
        if not error.filename and _SHM.is_dir() and free_bytes(_SHM) < 2**20:
            return _SMALL_SHM.format(shm=_room(_SHM))  # the semaphores of workers have no path
        room = f" ({bytes_of(free_bytes(place))} free)" if error.errno == errno.ENOSPC else ""
        # before the first checkpoint there is nothing to resume
        again = "--resume" if (folder / "last_checkpoint").is_file() else "start again"
        return (
            f"'{place}' was not written, {error.strerror}{room}: earlier files are whole; make "
            f"room, then {again}"
        )
    if error.errno is None or not error.filename:
        return None
    remedy = _SYSTEM.get(error.errno, "")
    return f"'{place}': {error.strerror}" + (remedy and f": {remedy}")
