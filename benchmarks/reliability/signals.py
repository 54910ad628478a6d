"""Signals to real trainings: does each end with one checkpoint, and go on to the same weights?

For each task, signal and number of processes, tools/train.py or tools/dist_train.sh gets the signal
in mid-training, and is started again with --resume. SIGINT and SIGTERM go to the whole process
group, data-loading workers included, as from a terminal; SIGUSR1 goes to the first process alone.

Run: python -m benchmarks.reliability.signals [--tasks det ...] [--signals SIGTERM ...]
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from benchmarks.reliability.small_recipes import TASKS, small_recipe, write_images

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
CODES = dict(SIGTERM=75, SIGUSR1=75, SIGINT=130)
UPDATES, EPOCHS = 30, 10
_TOOLS = Path(__file__).resolve().parents[2] / "tools"
_LIMIT = 240  # seconds that a training may take
_UPDATE = re.compile(r"\(train\).* loss: ")


def write_recipe(task: str, images: Path, folder: Path) -> Path:
    """A small recipe of a task, which saves at its end only; returns its file."""
    cfg = small_recipe(task, images, folder / "unused")
    cfg.default_hooks.checkpoint.interval = 1000
    decay = cfg.param_scheduler[1]
    if "max_epochs" in cfg.train_cfg:
        cfg.train_cfg.max_epochs = decay.T_max = EPOCHS
    else:
        cfg.train_cfg.max_iters = decay.end = UPDATES
    file = folder / f"{task}.py"
    cfg.dump(file)
    return file


def command(recipe: Path, work_dir: Path, processes: int, *options: str) -> list[str]:
    """What a user would type."""
    words = [sys.executable, str(_TOOLS / "train.py"), str(recipe)]
    if processes > 1:
        words = ["bash", str(_TOOLS / "dist_train.sh"), str(recipe), str(processes)]
    return [*words, "--work-dir", str(work_dir), "--batch-per-gpu", str(4 // processes), *options]


def start(words: Sequence[str], log: Path) -> subprocess.Popen:
    """Start a process with a group of its own; its output is appended to a log."""
    environment = os.environ | dict(PYTHON=sys.executable, OMP_NUM_THREADS="1")
    with log.open("a") as output:
        return subprocess.Popen(
            words, stdout=output, stderr=output, env=environment, start_new_session=True
        )


def wait_for(process: subprocess.Popen, log: Path, text: str | re.Pattern = _UPDATE) -> None:
    """Wait until a line of a log matches.

    Raises:
        RuntimeError: When the process ended before.
    """
    ends = time.monotonic() + _LIMIT
    while not re.search(text, log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"no '{text}' in {log}")
        time.sleep(0.05)


def stop(recipe: Path, folder: Path, name: str, processes: int) -> tuple[int, list[str], str]:
    """Start a training in `folder/name`, and send it a signal after its first update.

    Returns:
        Its exit code, the checkpoints that it left, and its last line.
    """
    work_dir, log = folder / name, folder / f"{name}.log"
    process = start(command(recipe, work_dir, processes), log)
    try:
        wait_for(process, log)
        send = os.kill if name == "SIGUSR1" else os.killpg
        send(process.pid, signal.Signals[name])
        code = process.wait(_LIMIT)
    finally:
        process.kill()
    saved = sorted(path.name for path in work_dir.glob("*.pth"))
    return code, saved, log.read_text(errors="replace").splitlines()[-1]


def interrupt(recipe: Path, folder: Path, name: str, processes: int) -> list[str]:
    """Start a training, send it a signal, and let it go on; returns what went wrong.

    Args:
        folder: Holds a finished training, `undisturbed`, of this many processes.
    """
    work_dir, log = folder / name, folder / f"{name}.log"
    code, saved, said = stop(recipe, folder, name, processes)
    wrong = [f"exit code {code}, see {log}"] if code != CODES[name] else []
    if len(saved) != 1 or Path((work_dir / "last_checkpoint").read_text()).name != saved[0]:
        return [*wrong, f"{saved} are saved"]
    ending = rf"stopped by {name} after \d+ of {UPDATES} updates: saved .*{saved[0]}; the same .*"
    if not re.fullmatch(ending, said):
        wrong.append(f"the last line is '{said}'")
    resumed = start(command(recipe, work_dir, processes, "--resume"), log)
    if code := resumed.wait(_LIMIT):
        return [*wrong, f"exit code {code} of the resumed training, see {log}"]
    if not torch_equal(newest(folder / "undisturbed"), newest(work_dir)):
        wrong.append("other weights at the end")
    return wrong


def newest(work_dir: Path) -> Path:
    """The last checkpoint of a work directory."""
    return max(work_dir.glob("*.pth"), key=lambda path: path.stat().st_mtime)


def torch_equal(first: Path, second: Path) -> bool:
    """Whether two checkpoints have the same name and weights, to the last bit."""
    a, b = (torch.load(path, weights_only=False)["state_dict"] for path in (first, second))
    return (
        first.name == second.name
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
    )


def check(recipe: Path, folder: Path, names: Sequence[str], processes: int) -> int:
    """How many of the signals left nothing but a pause."""
    folder.mkdir()
    log = folder / "undisturbed.log"
    if start(command(recipe, folder / "undisturbed", processes), log).wait(_LIMIT):
        print(log.read_text()[-2000:], file=sys.stderr)
        return 0
    good = 0
    for name in names:
        wrong = interrupt(recipe, folder, name, processes)
        good += not wrong
        if wrong:
            print(f"{recipe.stem}, {name}, {processes}: {'; '.join(wrong)}", flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=SIGNALS)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all files there")
    args = parser.parse_args()
    # else a shell's background job would ignore it, and its trainings too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    good = total = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        write_images(folder / "images")
        for task, processes in product(args.tasks, args.processes):
            recipe = write_recipe(task, folder / "images", folder)
            good += check(recipe, folder / f"{task}-{processes}", args.signals, processes)
            total += len(args.signals)
    print(f"{good} of {total} signals left a checkpoint, and the weights of an undisturbed run")
    return 0 if good == total else 1


if __name__ == "__main__":
    sys.exit(main())
