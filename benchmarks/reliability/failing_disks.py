"""Disks that fail under a training, real ones: what is lost, and what is said; prints "n of n".

A training that saves after every update is halted after its third, its disk (a tmpfs) is made full,
read-only, gone or forbidden, and it goes on. It must end with exit code 1 and one line that names
the path, and of a full disk the bytes that are needed and free; every checkpoint that it leaves
must be whole, and none older than an interval. When the disk is back within the time of the tries,
or the run is resumed, it must reach its end. Runs as root or in a user namespace.

Run: python -m benchmarks.reliability.failing_disks
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.reliability.kills_while_saving import config, faults, forget_runs
from milan_mm.engine import checkpoints
from milan_mm.run.errors import user_errors
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import Start
from milan_mm.run.training import train

UPDATES, HALTED_AFTER, SIZE = 12, 3, "160m"
WAITS = (0.2, 0.4, 0.8)  # seconds between tries here, instead of a minute


def fill(disk: Path) -> None:
    """Leave less room than a checkpoint needs."""
    free = shutil.disk_usage(disk).free
    with (disk / "filler").open("wb") as file:
        file.write(b"0" * max(free - 2**22, 0))


def empty(disk: Path) -> None:
    (disk / "filler").unlink()


def mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True)


def forbid_writing(disk: Path) -> None:
    """By a mount above it, since the log is open on the one below."""
    mount("--bind", str(disk), str(disk))
    mount("-o", "remount,bind,ro", str(disk))


def hide(disk: Path) -> None:
    """As a server that is away: the folder is gone, and what was under the mount is there."""
    (disk / "run").rename(disk / "away")


def show(disk: Path) -> None:
    if (disk / "run").exists():  # made again, in the wrong place
        shutil.rmtree(disk / "run")
    (disk / "away").rename(disk / "run")


# What happens to the disk, what mends it, and what the line must say.
FAULTS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], str]] = {
    "full": (
        fill,
        empty,
        r"run/iter_\d+\.pth' was not written, No space left on device: it needs 7\.\d MiB "
        r"\(\d\.\d MiB free\): earlier files are whole; make room, then --resume",
    ),
    "read-only": (
        forbid_writing,
        lambda disk: subprocess.run(["umount", str(disk)], check=True),
        r"run/iter_\d+\.pth': Read-only file system: ",
    ),
    "gone": (hide, show, r"run': the folder is gone: bring its disk back, then --resume$"),
}


def trained(work_dir: Path, out: Path) -> None:
    """Train to the end, or to an error of one line."""
    forget_runs()
    checkpoints.WAITS = WAITS  # type: ignore[assignment]
    cfg = config(work_dir)
    cfg.train_cfg.max_iters = UPDATES
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1  # else one that goes makes room
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with user_errors(cfg):
        train(cfg, Start(resume="auto"), prepare(cfg, RunOptions(), TRAINING))


def start(work_dir: Path, out: Path) -> int:
    """A process that trains; returns its id."""
    if not (pid := os.fork()):
        code = 0
        try:
            trained(work_dir, out)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            os._exit(code)
    return pid


def halted(work_dir: Path, out: Path) -> int:
    """A process that is halted after it has saved for the third time."""
    pid, last = start(work_dir, out), work_dir / "last_checkpoint"
    while not last.exists() or int(re.findall(r"\d+", last.read_text())[0]) < HALTED_AFTER:
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise RuntimeError(f"it ended early: {out.read_text()}")
        time.sleep(0.001)
    os.kill(pid, signal.SIGSTOP)
    return pid


def end_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def newest(work_dir: Path) -> int:
    return int(re.findall(r"\d+", (work_dir / "last_checkpoint").read_text())[0])


def try_fault(name: str, disk: Path, out: Path) -> list[str]:
    """What is not as promised when a disk fails for good, and the run is resumed."""
    harm, mend, line = FAULTS[name]
    work_dir = disk / "run"
    problems: list[str] = []
    pid = halted(work_dir, out)
    before = newest(work_dir)
    harm(disk)
    os.kill(pid, signal.SIGCONT)
    if (code := end_of(pid)) != 1:
        problems.append(f"exit code {code}")
    said = out.read_text()
    errors = [text for text in said.splitlines() if text.startswith("error: ")]
    if len(errors) != 1 or not re.search(line, errors[0]) or "Traceback" in said:
        problems.append(f"it said: {said[-1500:]}")
    else:
        print(f"{name}: {errors[0]}")
    mend(disk)
    problems += faults(work_dir)
    if newest(work_dir) < before:
        problems.append(f"last_checkpoint went back from {before} to {newest(work_dir)}")
    if (code := end_of(start(work_dir, out))) or newest(work_dir) != UPDATES:
        problems.append(f"--resume: {code}, {out.read_text()[-1500:]}")
    return problems


def try_short_fault(name: str, disk: Path, out: Path) -> list[str]:
    """What is not as promised when the disk is back between two tries."""
    harm, mend, _ = FAULTS[name]
    pid = halted(disk / "run", out)
    harm(disk)
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)
    mend(disk)
    if (code := end_of(pid)) or newest(disk / "run") != UPDATES:
        return [f"exit code {code}, {out.read_text()[-1500:]}"]
    return faults(disk / "run")


def main() -> None:
    """Print the count; exits with code 1 unless it is full."""
    if os.geteuid() or "MILAN_MM_OWN_MOUNTS" not in os.environ:  # mounts that end with the process
        os.environ["MILAN_MM_OWN_MOUNTS"] = "1"
        here = [sys.executable, "-m", "benchmarks.reliability.failing_disks"]
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *here])
    tries = [(try_fault, name) for name in FAULTS]
    tries += [(try_short_fault, name) for name in ("full", "gone")]  # read-only is final
    well = 0
    for kind, name in tries:
        with tempfile.TemporaryDirectory() as folder:
            disk = Path(folder, "disk")
            disk.mkdir()
            mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk))
            try:
                problems = kind(name, disk, Path(folder, "out"))
            finally:
                subprocess.run(["umount", "-l", str(disk)], check=True)
        for problem in problems:
            print(f"{kind.__name__} {name}: {problem}", file=sys.stderr)
        well += not problems
    print(f"{well} of {len(tries)}: nothing lost, one line, resumed to the end")
    sys.exit(well < len(tries))


if __name__ == "__main__":
    main()
