"""`tools/benchmark.py data`: images per second and core, beside mmpretrain's own pipeline."""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset, default_collate
from mmengine.hub import get_config
from mmengine.registry import DATASETS, DefaultScope

from milan_mm.benchmark.contest import Comparison, Contest, Entry, Measurements, report
from milan_mm.benchmark.copies import crop_differences, make_copies
from milan_mm.benchmark.stages import STAGES, stage_seconds
from milan_mm.configs import load
from milan_mm.errors import MissingFileError, UserError
from milan_mm.upkeep.shrink import ShrinkSettings

OURS, PEER = "milan_mm", "mmpretrain"
COPIES = " from smaller copies"  # behind the name of a contestant
_OUR_RECIPE = "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"
_PEER_RECIPE = "mmpretrain::milan/milan_vit-base-p16_16xb256-amp-coslr-400e_in1k.py"
_BATCH_SIZE = 32
_WARM_UP, _PASSES = 1, 3  # over the images, for the table of stages
_MAX_DIFFERENCE = 1.0  # of 255, mean over all pixels: decoders and resizers round differently


def run(args: argparse.Namespace) -> None:
    """Check that both pipelines augment alike, then let them load the same files in turn.

    Raises:
        MissingFileError: When there are no images.
        UserError: For numbers below 1.
        RuntimeError: When the augmentations differ.
    """
    for name in ("images", "rounds", "size", "step_rate"):
        value = getattr(args, name)
        if value is not None and not value >= 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: give 1 or more")
    settings = _copy_settings(args)
    recipe = load(_OUR_RECIPE).train_dataloader
    peer = get_config(_PEER_RECIPE).train_dataloader
    pipelines = {
        OURS: with_size(recipe.dataset.pipeline, args.size),
        PEER: with_size(peer.dataset.pipeline, args.size),
    }
    files = dict(folder=args.dir, num_images=args.images)
    print(check_agreement(pipelines[OURS], pipelines[PEER], **files))
    with TemporaryDirectory() as copies:
        folders = {"": args.dir}
        if settings:
            print(_prepare_copies(pipelines[OURS], Path(copies), settings, args.images))
            folders[COPIES] = copies
        entries = [
            Entry(name + what, f"{__name__}:prepare", dict(files, pipeline=pipeline, folder=folder))
            for what, folder in folders.items()
            for name, pipeline in pipelines.items()
        ]
        with Contest(entries, threads=1) as contest:
            contest.run(args.rounds)
    stages = _measure_stages(pipelines, **files)
    print(stage_table(stages))
    rows = compare_rates(contest.measured, len(open_images([], **files)), args.dir, settings)
    print(verdict(stages[OURS], rows[0], args.step_rate, recipe.num_workers))
    if settings:
        cores = args.step_rate / rows[1].ours
        print(f"With images from the copies such a GPU needs {cores:.1f} loader cores.")
    report(rows)


def _copy_settings(args: argparse.Namespace) -> ShrinkSettings | None:
    """How to make the copies that were asked for.

    Raises:
        UserError: For settings of copies when none are made.
    """
    if args.short_side is not None:
        quality = 90 if args.quality is None else args.quality
        return ShrinkSettings(Path(args.dir), args.short_side, quality, args.subsampling or "420")
    if args.quality is not None or args.subsampling is not None:
        raise UserError("--quality and --subsampling belong to copies: add --short-side N")
    return None


def _prepare_copies(
    pipeline: list[dict], target: Path, settings: ShrinkSettings, num_images: int
) -> str:
    """Copy the images of the contest, and tell how the copies differ."""
    source = settings.source
    dataset = open_images([], str(source), num_images)
    paths = (Path(dataset.get_data_info(i)["img_path"]) for i in range(len(dataset)))
    names = [str(path.relative_to(source)) for path in paths]
    share = make_copies(names, target, settings)
    crop = next(step for step in pipeline if "crop_ratio_range" in step)
    area = crop["crop_ratio_range"]
    from_copies, from_filter = crop_differences(names, source, target, crop["scale"], area)
    return (
        f"copies (shorter side {settings.short_side}, quality {settings.quality}, "
        f"{settings.subsampling}) have {share:.0%} of the bytes; crops of them differ by "
        f"{from_copies:.2f} of 255 in the mean from crops of the originals, bilinear from bicubic "
        f"resizing by {from_filter:.2f}"
    )


def with_size(pipeline: list[dict], size: int | None) -> list[dict]:
    """The pipeline with crops of another side in pixels; None leaves the recipe's."""
    return [dict(step, scale=size) if size and "scale" in step else dict(step) for step in pipeline]


def build_dataset(settings: dict) -> BaseDataset:
    """A data set of mmpretrain, whose `data_root` is the folder of --dir.

    Raises:
        MissingFileError: When there is no such folder, or no image in it.
    """
    folder = settings["data_root"]
    if not Path(folder).is_dir():
        raise MissingFileError(f"image folder '{folder}' does not exist: correct --dir")
    try:
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            return DATASETS.build(settings)
    except RuntimeError as error:  # of a folder without any image; it does not say which
        raise MissingFileError(f"image folder '{folder}' has no images: correct --dir") from error


def open_images(pipeline: list[dict], folder: str, num_images: int) -> BaseDataset:
    """Images from all over a folder tree behind a pipeline: whole batches, at most `num_images`.

    Raises:
        MissingFileError: When there are fewer than a batch of them.
    """
    dataset = build_dataset(
        dict(type="CustomDataset", data_root=folder, with_label=False, pipeline=pipeline)
    )
    count = min(num_images, len(dataset)) // _BATCH_SIZE * _BATCH_SIZE
    if not count:
        raise MissingFileError(
            f"{min(num_images, len(dataset))} images of '{folder}' are less than the "
            f"{_BATCH_SIZE} of a batch: give --dir a larger folder, or --images a larger number"
        )
    return dataset.get_subset(np.linspace(0, len(dataset) - 1, count).astype(int).tolist())


def prepare(pipeline: list[dict], folder: str, num_images: int) -> Callable[[], None]:
    """A contestant: one step loads all images, in batches, in one thread of this process."""
    cv2.setNumThreads(1)
    dataset = open_images(pipeline, folder, num_images)

    def step() -> None:
        for start in range(0, len(dataset), _BATCH_SIZE):
            default_collate([dataset[start + i] for i in range(_BATCH_SIZE)])

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
    """A pipeline that is seeded for every image, and tells what it drew."""

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


def _measure_stages(
    pipelines: dict[str, list[dict]], folder: str, num_images: int
) -> dict[str, dict[str, float]]:
    """Seconds per image of each stage of each pipeline: the median pass of some, in turn."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    datasets = {
        name: open_images(pipeline, folder, num_images) for name, pipeline in pipelines.items()
    }
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in datasets}
    for _ in range(_WARM_UP + _PASSES):
        for name, dataset in datasets.items():
            passes[name].append(stage_seconds(dataset, _BATCH_SIZE))
    return {
        name: {stage: statistics.median(p[stage] for p in rows[_WARM_UP:]) for stage in STAGES}
        for name, rows in passes.items()
    }


def stage_table(stages: dict[str, dict[str, float]]) -> str:
    """Milliseconds per image, one column per contestant.

    Args:
        stages: Of each contestant, seconds per image of each stage.
    """
    lines = [f"{'ms per image, one core':<24}" + "".join(f"{name:>12}" for name in stages)]
    for stage in STAGES:
        numbers = (f"{1e3 * seconds[stage]:>12.3f}" for seconds in stages.values())
        lines.append(f"  {stage:<22}" + "".join(numbers))
    sums = (f"{1e3 * sum(seconds.values()):>12.3f}" for seconds in stages.values())
    return "\n".join([*lines, f"  {'sum':<22}" + "".join(sums)])


def compare_rates(
    measured: dict[str, Measurements],
    num_images: int,
    folder: str,
    settings: ShrinkSettings | None,
) -> list[Comparison]:
    """Ours beside the peer; with copies also ours from them, and both from them.

    Args:
        measured: Of the contestants, whose steps loaded all images once.
        settings: Of the copies.
    """
    case = f"{num_images} images of {folder}"
    pairs = {case: (OURS, PEER)}
    if settings:
        small = f"copies of {settings.short_side} pixels"
        pairs[f"{case}, ours from {small}"] = (OURS + COPIES, PEER)
        pairs[f"{case}, both from {small}"] = (OURS + COPIES, PEER + COPIES)
    return [
        _throughput(case, measured[ours], measured[peer], num_images)
        for case, (ours, peer) in pairs.items()
    ]


def _throughput(case: str, ours: Measurements, peer: Measurements, num_images: int) -> Comparison:
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


def verdict(stages: dict[str, float], row: Comparison, step_rate: float, num_workers: int) -> str:
    """Which stage limits training, in one sentence.

    Args:
        stages: Seconds per image of each stage of ours.
        step_rate: Images per second that a GPU trains on. num_workers: Of the recipe, per GPU.
    """
    slowest = max(stages, key=lambda stage: stages[stage])
    share = stages[slowest] / sum(stages.values())
    cores, peer_cores = (step_rate / rate for rate in (row.ours, row.peer))
    limit = (
        f"loading limits training, in it {slowest}"
        if cores > num_workers
        else f"the model limits training; of loading, {slowest}"
    )
    return (
        f"A GPU that trains on {step_rate:g} images/s needs {cores:.1f} loader cores ({PEER}'s "
        f"pipeline {peer_cores:.1f}); with the recipe's {num_workers} workers {limit} takes most, "
        f"{share:.0%}."
    )
