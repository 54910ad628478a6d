"""Frozen features: time and memory as images, classes and width grow, and what ImageNet takes.

    python -m benchmarks.frozen             # measures at sizes that a small machine bears

Features are random clusters in a store of their own, so no encoder runs: what is measured is
writing, checking, and two protocols. "Anonymous" is the memory that a process owns; pages of the
mapped file come beside it, and the system takes them back when it needs them. The lines for
ImageNet are arithmetic, from the numbers of operations and bytes.
"""

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from milan_mm.evaluation.frozen.choosing import rows_of
from milan_mm.evaluation.frozen.logistic import LogisticRegression
from milan_mm.evaluation.frozen.neighbours import KS
from milan_mm.evaluation.frozen.spec import FeatureSpec, Needs
from milan_mm.evaluation.frozen.store import Images, Store, find_store
from milan_mm.evaluation.frozen.store_writer import writing
from milan_mm.evaluation.voting import neighbours, votes
from milan_mm.text import bytes_of

BASE = dict(images=20_000, classes=10, width=192)
GROWN = (dict(images=40_000), dict(classes=100), dict(width=384))
TEST_IMAGES, BATCH = 2_000, 512
IMAGENET = dict(images=1_281_167, tests=50_000, classes=1_000, width=768)


def main(argv: list[str] | None = None) -> None:
    """Print a row for each size, and the arithmetic."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many images (1)")
    args = parser.parse_args(argv)
    print(f"{'images':>8}{'classes':>9}{'width':>7}" + "".join(f"{n:>24}" for n in COLUMNS))
    for change in ({}, *GROWN):
        size = BASE | change
        size["images"] = max(int(size["images"] * args.scale), size["classes"] * 2, max(KS))
        cells = measure(**size)
        print(
            f"{size['images']:>8}{size['classes']:>9}{size['width']:>7}"
            + "".join(f"{f'{s:.2f} s, {bytes_of(b)}':>24}" for s, b in cells)
        )
    print("\n".join(arithmetic(**IMAGENET)))


COLUMNS = ("write", "check and map", f"k-NN, {len(KS)} k", "logistic, one C")


def measure(images: int, classes: int, width: int) -> list[tuple[float, int]]:
    """Seconds, and bytes of anonymous memory beyond those at the start, of each of `COLUMNS`."""
    labels = torch.arange(images) % classes
    spec = FeatureSpec(
        *("random", "0" * 64, "", None, images, "train", 224, 0.875, "imagenet"),
        needs=Needs((0,), ("avg",)),
        width=width,
    )
    found: list[tuple[float, int]] = []
    with TemporaryDirectory() as root:
        with watched(found):
            _write(Path(root), spec, labels)
        with watched(found):
            store = find_store(root, spec)
            assert store and not store.check()
            features = store.read("avg").last
        tests = features[:TEST_IMAGES].clone()
        with watched(found):
            votes(*neighbours(features, labels, tests, max(KS), normalise=True), classes, KS)
        with watched(found):
            LogisticRegression(rows_of(features, labels), classes).fit(1.0)
    return found


def arithmetic(images: int, tests: int, classes: int, width: int) -> list[str]:
    """What one block and one pooling of ImageNet take."""
    values = images * width
    block, best = 65_536 * (width + 2 * 512) * 4, tests * max(KS) * 12
    iteration = 4 * values * classes
    return [
        f"\nImageNet, {images:,} images, {classes:,} classes, width {width}, by arithmetic:",
        f"  on the disk, for each block and pooling: {bytes_of(4 * values)} in float32, "
        f"{bytes_of(2 * values)} in float16; never more than a batch of it in memory",
        f"  k-NN of {tests:,} images: {2 * values * tests / 1e12:.0f} TFLOP in one pass of the "
        f"file, whatever the number of k; {bytes_of(block + best + tests * width * 4)} of memory",
        f"  logistic regression: {iteration / 1e12:.1f} TFLOP in float64 for each iteration, a few "
        f"hundred for a grid of C; a GPU keeps {bytes_of(8 * values)} of features where half of "
        "its free memory allows, else they are read in batches in each iteration",
    ]


@contextmanager
def watched(found: list[tuple[float, int]]) -> Iterator[None]:
    """Append the seconds of a block, and the most anonymous memory that it added, in bytes."""
    start, most, done = anonymous(), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], anonymous() - start)

    thread = threading.Thread(target=look)
    thread.start()
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - began
        done.set()
        thread.join()
    found.append((seconds, most[0]))


def anonymous() -> int:
    """Bytes that this process owns, without those of mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


def _write(root: Path, spec: FeatureSpec, labels: torch.Tensor) -> Store:
    classes = [str(i) for i in range(int(labels.max()) + 1)]
    images = Images([f"{i}.jpg" for i in range(len(labels))], labels.tolist(), classes)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(len(classes), spec.width, generator=generator)
    with writing(root, spec, images) as writer:
        for part in labels.split(BATCH):
            noise = 3 * torch.randn(len(part), spec.width, generator=generator)
            writer.add(dict(avg=(centres[part] + noise)[:, None]))
        return writer.store


if __name__ == "__main__":
    main()
