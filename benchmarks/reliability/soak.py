"""A long while of trainings under random harm: killed, stopped, out of disk, with damaged files.

One after the other, trainings of all four tasks are harmed at random moments and started again by
the same command until they reach their end: SIGKILL for a training or one of its workers, SIGTERM,
SIGUSR1, SIGINT, a full disk, a flipped bit or a lost half of the newest checkpoint. Final weights
must be those of an undisturbed training, to the last bit. Beside them one training runs undisturbed
for the whole time: how its memory and its checkpoints grow.

The disk is a tmpfs, so this runs as root or in a user namespace.

Run: python -m benchmarks.reliability.soak [--minutes 30] [--seed 0]
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
import psutil

from benchmarks.reliability.signals import command, newest, start, torch_equal
from benchmarks.reliability.small_recipes import TASKS, small_recipe, write_images

UPDATES, INTERVAL = 60, 5  # of a training that is harmed, and between two of its checkpoints
LONGEST = 12.0  # seconds until a training is harmed, after its first checkpoint of this start
DISK = "400m"
CODES = dict(SIGKILL=-9, SIGTERM=75, SIGUSR1=75, SIGINT=130, worker=1, full=1)
_LIMIT = 300  # seconds that a start may take
_MOUNTED = "MILAN_MM_OWN_MOUNTS"


@dataclass
class Soak:
    """The trainings that are harmed, and what has happened to them.

    Attributes:
        folder: For recipes, images and undisturbed trainings. disk: For those that are harmed.
        chance: Draws what happens, and when.
        ends: When no further training is started, as `time.monotonic` counts.
    """

    folder: Path
    disk: Path
    chance: random.Random
    ends: float
    harms: Counter[str] = field(default_factory=Counter)
    deck: list[str] = field(default_factory=list)
    equal: int = 0
    total: int = 0

    def run(self) -> None:
        """Harm trainings, a task after the other, until the time is over."""
        for task in cycle(TASKS):
            if time.monotonic() > self.ends:
                return
            recipe = write_recipe(task, self.folder, UPDATES, INTERVAL)
            undisturbed = self.folder / f"{task}-undisturbed"
            if not undisturbed.exists():
                log = undisturbed.with_suffix(".log")
                if start(command(recipe, undisturbed, 1), log).wait(_LIMIT):
                    raise RuntimeError(log.read_text()[-2000:])
            work_dir = self.disk / f"{self.total}"
            wrong = self.harm(recipe, work_dir, undisturbed)
            self.total += 1
            self.equal += not wrong
            said = ", ".join(f"{n} {name}" for name, n in sorted(self.harms.items()))
            print(f"{self.equal} of {self.total} equal; so far: {said}", flush=True)
            for line in wrong:
                print(f"{task}: {line}", file=sys.stderr, flush=True)
            shutil.rmtree(work_dir)

    def harm(self, recipe: Path, work_dir: Path, undisturbed: Path) -> list[str]:
        """Train to the end, whatever happens on the way; returns what is not as promised."""
        log = self.folder / "harmed.log"
        log.unlink(missing_ok=True)
        wrong: list[str] = []
        for attempt in range(40):
            has_run = work_dir.exists()
            process = start(command(recipe, work_dir, 1, "--resume"), log)
            harm = self.draw() if attempt < 12 else "nothing"
            try:
                code = self.do(harm, process, work_dir, has_run)
            finally:
                process.kill()
            if code == 0:
                break
            if harm == "nothing" or code != CODES[harm]:
                end = log.read_text(errors="replace")[-1500:]
                return [*wrong, f"exit code {code} after {harm}; the log ends with\n{end}"]
            self.harms[harm] += 1
            if self.chance.random() < 0.4:
                self.damage(work_dir)
        if not torch_equal(newest(undisturbed), newest(work_dir)):
            wrong.append("other weights at the end")
        if left := [*work_dir.glob(".iter_*"), *work_dir.glob("..*")]:
            wrong.append(f"left behind: {left}")
        return wrong

    def draw(self) -> str:
        """What happens next: everything once, in some order, then again."""
        if not self.deck:
            self.deck = [*CODES, "nothing"]
            self.chance.shuffle(self.deck)
        return self.deck.pop()

    def do(self, harm: str, process: subprocess.Popen, work_dir: Path, has_run: bool) -> int:
        """Let one thing happen to a training that has begun; returns its exit code."""
        if harm == "nothing":
            return process.wait(_LIMIT)
        before = set(work_dir.glob("iter_*.pth")) if has_run else set()
        while set(work_dir.glob("iter_*.pth")) <= before:
            if process.poll() is not None:
                return process.returncode
            time.sleep(0.05)
        time.sleep(self.chance.random() * LONGEST)
        if harm == "full":
            with filled(self.disk):
                return process.wait(_LIMIT)
        try:
            if harm == "worker":
                workers = psutil.Process(process.pid).children()
                if not workers:
                    return process.wait(_LIMIT)
                self.chance.choice(workers).kill()
            elif harm == "SIGINT":  # as a terminal sends it
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.send_signal(signal.Signals[harm])
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass  # it has just ended
        return process.wait(_LIMIT)

    def damage(self, work_dir: Path) -> None:
        """Flip a bit of the newest checkpoint, or lose its second half, if another is left."""
        files = sorted(work_dir.glob("iter_*.pth"), key=lambda path: path.stat().st_mtime)
        if len(files) < 2:
            return
        content = bytearray(files[-1].read_bytes())
        if self.harms["bit"] <= self.harms["half"]:
            content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
            self.harms["bit"] += 1
        else:
            del content[len(content) // 2 :]
            self.harms["half"] += 1
        files[-1].write_bytes(content)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no room for a checkpoint as long as the block lasts."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    yield
    filler.unlink()


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk that only this process and its children see."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


class LongRun:
    """A training that nothing happens to, and what it takes."""

    def __init__(self, folder: Path) -> None:
        recipe = write_recipe("pretrain", folder, 600_000, 200)
        self.work_dir = folder / "long"
        self.process = start(command(recipe, self.work_dir, 1), folder / "long.log")
        self.memory: list[tuple[float, float]] = []  # minutes, MiB
        self._is_over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def _look(self) -> None:
        """Note its memory every five seconds."""
        started, process = time.monotonic(), psutil.Process(self.process.pid)
        while not self._is_over.wait(5):
            minutes = (time.monotonic() - started) / 60
            self.memory.append((minutes, process.memory_info().rss / 2**20))

    def end(self) -> str:
        """End it; returns what it took, in a line."""
        self._is_over.set()
        self._looking.join()
        self.process.terminate()
        self.process.wait(_LIMIT)
        files = sorted(self.work_dir.glob("iter_*.pth"), key=lambda path: path.stat().st_mtime)
        sizes = [file.stat().st_size for file in files]
        iterations = [int(re.findall(r"\d+", file.name)[-1]) for file in files]
        minutes, resident = np.array(self.memory).T
        late = minutes > minutes[-1] / 5  # caches are filled by then
        slope = np.polyfit(minutes[late], resident[late], 1)[0]
        growth = (sizes[-1] - sizes[0]) / max(iterations[-1] - iterations[0], 1)
        return (
            f"{iterations[-1]:,} updates in {minutes[-1]:.0f} minutes: memory {slope:+.2f} MiB per "
            f"minute of {resident[-1]:.0f}; checkpoints {growth:+.2f} bytes per update, "
            f"{sizes[0]:,} after {iterations[0]:,} and {sizes[-1]:,} at the end"
        )


def write_recipe(task: str, folder: Path, updates: int, interval: int) -> Path:
    """A small recipe of a task, as a file."""
    cfg = small_recipe(task, folder / "images", folder / "unused", updates)
    keep = 3 if updates == UPDATES else -1
    cfg.default_hooks.checkpoint.update(interval=interval, max_keep_ckpts=keep)
    if keep < 0:
        cfg.default_hooks.logger.interval = 50
    file = folder / f"{task}-{updates}.py"
    cfg.dump(file)
    return file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if _MOUNTED not in os.environ:  # mounts that end with the process
        os.environ[_MOUNTED] = "1"
        here = [sys.executable, "-m", "benchmarks.reliability.soak", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *here])
    # else a shell's background job would ignore it, and its trainings too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ends = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images")
        long_run = LongRun(folder)
        try:
            with small_disk() as disk:
                soak = Soak(folder, disk, random.Random(args.seed), ends)
                soak.run()
            print(long_run.end())
        finally:
            long_run.process.kill()
    said = ", ".join(f"{n} {name}" for name, n in sorted(soak.harms.items()))
    print(
        f"{soak.equal} of {soak.total} trainings ended with the weights of undisturbed ones; {said}"
    )
    return 0 if soak.equal == soak.total else 1


if __name__ == "__main__":
    sys.exit(main())
