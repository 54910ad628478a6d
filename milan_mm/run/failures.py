"""Failures of the machine, in one line with a remedy: full disks, lost folders, killed workers."""

import errno
import shutil
from pathlib import Path

import torch

from milan_mm.text import bytes_of

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNREACHABLE = "bring its disk back, then --resume"
_SYSTEM = {
    errno.EROFS: "make it writable, or choose another --work-dir",
    errno.EACCES: "give yourself access, or choose another folder",
    errno.EIO: _UNREACHABLE,
    errno.ENOTCONN: _UNREACHABLE,
    errno.ESTALE: _UNREACHABLE,
}
# What torch's messages contain -> what helps. The first row that fits is taken.
_REMEDIES = (
    (
        ("out of shared memory", "shared memory(shm)", "shared memory limit"),
        "/dev/shm is too small for the data-loading workers: enlarge it (docker run --shm-size=8g, "
        "or --ipc=host), or pass --cfg-options train_dataloader.num_workers=N with a smaller N",
    ),
    (
        ("DataLoader worker (pid",),
        "a data-loading worker was ended from outside, often since memory ran out: pass "
        "--cfg-options train_dataloader.num_workers=N with a smaller N, then --resume",
    ),
    (
        ("EADDRINUSE",),
        "the port is taken by another run: set PORT to a free one",
    ),
    (
        ("Gloo connectFullMesh", "gloo/transport"),
        "the processes did not reach each other: set GLOO_SOCKET_IFNAME to the network interface "
        "that the machines share, as `ip address` names it",
    ),
)


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
        text = str(error)
        return next((line for marks, line in _REMEDIES if any(m in text for m in marks)), None)
    return None


def _explain_system(error: OSError, folder: Path) -> str | None:
    """Of a path; errors of sockets have none."""
    place = Path(error.filename) if error.filename else folder
    if error.errno in _FULL:
        return (
            f"'{place}' was not written, {error.strerror} ({free_space(place)} free): earlier "
            "files are whole; make room, then --resume"
        )
    if error.errno is None or not error.filename:
        return None
    remedy = _SYSTEM.get(error.errno, "")
    return f"'{place}': {error.strerror}" + (remedy and f": {remedy}")


def free_space(path: Path) -> str:
    """Free bytes of the file system of a path, which may not exist, for people."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    return bytes_of(shutil.disk_usage(existing).free)
