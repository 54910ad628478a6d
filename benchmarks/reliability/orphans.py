"""Every tool that starts processes is ended in four ways: does anything live on for 30 seconds?

    python -m benchmarks.reliability.orphans [--tool train1 ...] [--way SIGKILL ...]

Prints a line for each trial and `n of n`.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.reliability.trials import TOOLS, Trial, training

SECONDS = 30
# A group is what Ctrl-C reaches in a terminal.
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "exception")


def _images(folder: Path, number: int = 3000) -> None:
    for part in ("train", "val"):
        for name in ("a", "b"):
            place = folder / "photos" / part / name
            place.mkdir(parents=True)
            pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "0.png")
            for i in range(1, number // 4):
                (place / f"{i}.png").symlink_to("0.png")


def _tool(folder: Path, name: str, *arguments: str) -> Trial:
    return Trial(folder, [sys.executable, str(TOOLS / f"{name}.py"), *arguments])


def trial_of(folder: Path, tool: str, way: str) -> Trial:
    """The command of a tool, and what it works on."""
    fault = {"FAULT": f"defect@train@{int(tool == 'train2')}"} if way == "exception" else {}
    if tool.startswith("train"):
        return training(folder, int(tool[-1]), "--work-dir", "run", SECONDS_OF_STEP="2", **fault)
    _images(folder)
    return _tool(folder, "check_data", "cls", "--data", "photos", "--workers", "2")


def left_behind(tool: str, way: str) -> int:
    """Processes that are left of a tool that was ended in one way."""
    with tempfile.TemporaryDirectory() as name:
        trial = trial_of(Path(name), tool, way)
        process = trial.start()
        wanted = dict(train1=3, train2=6).get(tool, 3)  # with loaders or a pool
        deadline = time.monotonic() + 120
        while len(trial.processes()) < wanted and process.poll() is None:
            assert time.monotonic() < deadline, trial.output
            time.sleep(0.05)
        started = len(trial.processes())
        if way != "exception":
            number = signal.Signals[way]
            process.send_signal(number)
        try:
            code: int | str = process.wait(90)
        except subprocess.TimeoutExpired:
            code = "none in 90 s"
        left = trial.orphans(SECONDS)
        print(f"{tool}, {way}: {started} processes, exit code {code}, {len(left)} left", flush=True)
        for pid in left:
            subprocess.run(["kill", "-9", str(pid)])
        return len(left) + (started < wanted)  # one that had not begun shows nothing


def main() -> None:
    """Run all that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tools = ["train1", "train2", "check_data"]
    parser.add_argument("--tool", nargs="+", default=tools)
    parser.add_argument("--way", nargs="+", default=list(WAYS))
    args = parser.parse_args()
    pairs = [(t, w) for t in args.tool for w in args.way if w != "exception" or "train" in t]
    good = sum(not left_behind(tool, way) for tool, way in pairs)
    print(f"{good} of {len(pairs)} ends left no process behind for {SECONDS} seconds")


if __name__ == "__main__":
    main()
