"""Two processes that accumulate two parts against one that accumulates four: the same losses?

Masks, dropped paths and augmentation are drawn alike for every split. What detection samples, what
segmentation drops out and normalises by batch, and how images are mixed depends on the split.

Run: python -m benchmarks.reliability.splits
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.reliability.exact_resume import Training, losses
from benchmarks.reliability.small_recipes import write_images

TASKS = ("pretrain", "cls")
LIMIT = 1e-6


def update_losses(training: Training) -> list[float]:
    """The loss of each update: the mean over processes and parts."""
    training.run_apart()
    ranks = [losses(training.work_dir, rank) for rank in range(training.processes)]
    values = [[float.fromhex(loss) for _, loss in rows] for rows in ranks]
    parts = training.parts
    return [
        sum(sum(row[i : i + parts]) for row in values) / parts / len(values)
        for i in range(0, len(values[0]), parts)
    ]


def largest_difference(one: Training) -> float:
    """Between the losses of two splits of a training.

    Args:
        one: In one process; the other has two, each of which computes half as many parts.
    """
    two = replace(one, work_dir=one.work_dir.with_name("two"), processes=2, parts=one.parts // 2)
    pairs = zip(update_losses(one), update_losses(two), strict=True)
    return max(abs(a - b) for a, b in pairs)


def main() -> int:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    good = True
    for task in TASKS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_images(folder / "images")
            one = Training(task, folder / "images", folder / "one", parts=4, mixes=False)
            largest = largest_difference(one)
        print(f"{task}: losses of 12 updates differ by at most {largest:.1e}", flush=True)
        good &= largest <= LIMIT
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
