"""`tools/benchmark.py data`: images per second and core, ours against mmpretrain's own pipeline."""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import BaseDataset, default_collate
from mmengine.hub import get_config
from mmengine.registry import DATASETS, DefaultScope

from milan_mm.benchmark.contest import Comparison, Contest, Entry, Measurements, report
from milan_mm.configs import load
from milan_mm.datasets.folders import EXTENSIONS
from milan_mm.errors import MissingFileError, UserError

OURS, PEER = "milan_mm", "mmpretrain"
BATCH_SIZE = 32
_OUR_RECIPE = "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"
_PEER_RECIPE = "mmpretrain::milan/milan_vit-base-p16_16xb256-amp-coslr-400e_in1k.py"
_MAX_DIFFERENCE = 1.0  # of 255, mean over all pixels: decoders and resizers round differently


def run(args: argparse.Namespace) -> None:
    """Check that both pipelines augment alike, then let them load the same files in turn.

    Args:
        args: `dir`, `images`, `rounds`, `size`, `step_rate`, and `quality` and `subsampling`,
            which must be None; see tools/benchmark.py.

    Raises:
        MissingFileError: When there are no images.
        UserError: For numbers below 1, and for settings of copies, which are not made here.
        RuntimeError: When the augmentations differ.
    """
    check_numbers(args)
    if args.quality is not None or args.subsampling is not None:
        raise UserError("--quality and --subsampling belong to copies: add --short-side N")
    pipelines, workers = load_pipelines(args.size)
    print(check_agreement(pipelines[OURS], pipelines[PEER], args.dir, args.images))
    entries = [make_entry(name, pipelines[name], args.dir, args.images) for name in (OURS, PEER)]
    with Contest(entries, threads=1) as contest:
        contest.run(args.rounds)
    count = len(open_images([], args.dir, args.images))
    measured = contest.measured
    row = compare_rates(f"{count} images of {args.dir}", measured[OURS], measured[PEER], count)
    print(verdict(row, args.step_rate, workers))
    report([row])


def check_numbers(args: argparse.Namespace) -> None:
    """Raise a `UserError` for numbers below 1."""
    for name in ("images", "rounds", "size", "step_rate"):
        value = getattr(args, name)
        if value is not None and not value >= 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: give 1 or more")


def load_pipelines(size: int | None) -> tuple[dict[str, list[dict]], int]:
    """The pipelines of both recipes by contestant, and the workers per GPU of our recipe.

    Args:
        size: Side of the crops in pixels; None takes the recipes'.
    """
    ours = load(_OUR_RECIPE).train_dataloader
    peer = get_config(_PEER_RECIPE).train_dataloader
    pipelines = {
        OURS: with_size(ours.dataset.pipeline, size),
        PEER: with_size(peer.dataset.pipeline, size),
    }
    return pipelines, ours.num_workers


def make_entry(name: str, pipeline: list[dict], folder: str, num_images: int) -> Entry:
    """A contestant that loads images of a folder, see `prepare`."""
    settings = dict(pipeline=pipeline, folder=folder, num_images=num_images)
    return Entry(name, f"{__name__}:prepare", settings)


def with_size(pipeline: list[dict], size: int | None) -> list[dict]:
    """The pipeline with crops of another side in pixels; None leaves the recipe's."""
    return [dict(step, scale=size) if size and "scale" in step else dict(step) for step in pipeline]


def build_dataset(settings: dict) -> BaseDataset:
    """A data set of mmpretrain whose `data_root` is the folder of --data.

    Raises:
        MissingFileError: When there is no such folder, or no image in it.
    """
    folder = settings["data_root"]
    if not Path(folder).is_dir():
        raise MissingFileError(f"image folder '{folder}' does not exist: correct --data")
    try:
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            return DATASETS.build(settings)
    except RuntimeError as error:  # for a folder without images, which it does not name
        raise MissingFileError(f"image folder '{folder}' has no images: correct --data") from error


def open_images(pipeline: list[dict], folder: str, num_images: int) -> BaseDataset:
    """Images from all over a folder tree behind a pipeline: whole batches, at most `num_images`.

    Raises:
        MissingFileError: When there are fewer than a batch of them.
    """
    settings = dict(data_root=folder, with_label=False, extensions=EXTENSIONS)
    dataset = build_dataset(dict(type="CustomDataset", pipeline=pipeline, **settings))
    count = min(num_images, len(dataset)) // BATCH_SIZE * BATCH_SIZE
    if not count:
        raise MissingFileError(
            f"{min(num_images, len(dataset))} images of '{folder}' are fewer than the "
            f"{BATCH_SIZE} of a batch: give --data a larger folder, or --images a larger number"
        )
    return dataset.get_subset(np.linspace(0, len(dataset) - 1, count).astype(int).tolist())


def prepare(pipeline: list[dict], folder: str, num_images: int) -> Callable[[], None]:
    """A contestant: one step loads all images, in batches, in one thread of this process."""
    cv2.setNumThreads(1)
    dataset = open_images(pipeline, folder, num_images)

    def step() -> None:
        for start in range(0, len(dataset), BATCH_SIZE):
            default_collate([dataset[start + i] for i in range(BATCH_SIZE)])

    return step


def check_agreement(ours: list[dict], peer: list[dict], folder: str, num_images: int) -> str:
    """Load every image through both pipelines with the same random numbers.

    Returns:
        A sentence with the differences of the pixels.

    Raises:
        RuntimeError: When a crop box or a flip differs, or the pixels by more than rounding.
    """
    recorders = [_Recorder(pipeline, folder, num_images) for pipeline in (ours, peer)]
    count = len(recorders[0].dataset)
    means, close = [], []
    for i in range(count):
        (own_pixels, *own_draws), (pixels, *draws) = (part.load(i) for part in recorders)
        if own_draws != draws:
            raise RuntimeError(
                f"the augmentations differ: {OURS} drew box and flip {own_draws}, {PEER} {draws}"
            )
        difference = np.abs(own_pixels - pixels)
        means.append(difference.mean())
        close.append(np.mean(difference <= 2))
    sentence = (
        f"{count} images have equal crop boxes and flips; pixels differ by "
        f"{np.mean(means):.2f} of 255 in the mean, by at most 2 in {np.mean(close):.1%} of them; "
        f"the image that differs most by {max(means):.2f} in its mean"
    )
    if np.mean(means) > _MAX_DIFFERENCE:
        raise RuntimeError(f"{sentence}; the limit of the mean is {_MAX_DIFFERENCE}")
    return sentence


class _Recorder:
    """A pipeline that is seeded for every image, and records what it draws."""

    def __init__(self, pipeline: list[dict], folder: str, num_images: int) -> None:
        seeded = [dict(type="milan_mm.SeedSample"), *pipeline]
        self.dataset = open_images(seeded, folder, num_images)
        self._boxes: list[tuple] = []
        for transform in self.dataset.pipeline.transforms:
            cropper = getattr(transform, "cropper", transform)
            if hasattr(cropper, "rand_crop_params"):
                cropper.rand_crop_params = self._recorded(cropper.rand_crop_params)

    def load(self, index: int) -> tuple[np.ndarray, tuple, bool]:
        """Pixels (3, H, W) int16, crop box (top, left, height, width), flipped or not."""
        sample = self.dataset[index]
        pixels = sample["inputs"].numpy().astype(np.int16)
        return pixels, self._boxes.pop(), sample["data_samples"].flip

    def _recorded(self, draw: Callable) -> Callable:
        def run(image: object) -> tuple:
            self._boxes.append(tuple(draw(image)))
            return self._boxes[-1]

        return run


def compare_rates(case: str, ours: Measurements, peer: Measurements, num_images: int) -> Comparison:
    """Images per second of two contestants whose steps loaded all images once."""
    rates = [sorted(num_images / seconds for seconds in m.seconds) for m in (ours, peer)]
    return Comparison(
        bench="data",
        case=case,
        metric="throughput",
        ours=statistics.median(rates[0]),
        peer=statistics.median(rates[1]),
        unit="images/s per core",
        spread=" against ".join(f"{rate[0]:.0f} to {rate[-1]:.0f}" for rate in rates),
    )


def verdict(row: Comparison, step_rate: float, num_workers: int) -> str:
    """One sentence: what limits training, loading or the model.

    Args:
        row: Of `compare_rates`.
        step_rate: Images per second that a GPU trains on. num_workers: Of the recipe, per GPU.
    """
    cores, peer_cores = (step_rate / rate for rate in (row.ours, row.peer))
    limit = "loading" if cores > num_workers else "the model"
    return (
        f"A GPU that trains on {step_rate:g} images/s needs {cores:.1f} loader cores ({PEER}'s "
        f"pipeline {peer_cores:.1f}); with the recipe's {num_workers} workers, {limit} limits "
        "training."
    )
