"""`benchmark.py data --short-side`: loading from smaller copies, and how far their crops differ."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from milan_mm.benchmark.contest import Comparison, Contest, Measurements, report
from milan_mm.benchmark.data import (
    OURS,
    PEER,
    check_agreement,
    check_numbers,
    compare_rates,
    load_pipelines,
    make_entry,
    open_images,
    verdict,
)
from milan_mm.datasets.decoding import decode
from milan_mm.upkeep.shrink import ShrinkSettings, copy_file

COPIES = " from smaller copies"  # after the name of a contestant
_BICUBIC, _BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def run(args: argparse.Namespace) -> None:
    """Copy the images, then let both pipelines load originals and copies in turn.

    Args:
        args: As of `data`, with `short_side`, `quality` and `subsampling`.

    Raises:
        MissingFileError: When there are no images.
        UserError: For numbers below 1.
        RuntimeError: When the augmentations differ.
    """
    check_numbers(args)
    quality = 90 if args.quality is None else args.quality
    settings = ShrinkSettings(Path(args.dir), args.short_side, quality, args.subsampling or "420")
    pipelines, workers = load_pipelines(args.size)
    print(check_agreement(pipelines[OURS], pipelines[PEER], args.dir, args.images))
    with TemporaryDirectory() as copies:
        print(_prepare_copies(pipelines[OURS], Path(copies), settings, args.images))
        entries = [
            make_entry(name + what, pipeline, folder, args.images)
            for what, folder in {"": args.dir, COPIES: copies}.items()
            for name, pipeline in pipelines.items()
        ]
        with Contest(entries, threads=1) as contest:
            contest.run(args.rounds)
    rows = compare_all(contest.measured, len(open_images([], args.dir, args.images)), settings)
    print(verdict(rows[0], args.step_rate, workers))
    cores = args.step_rate / rows[1].ours
    print(f"With images from the copies such a GPU needs {cores:.1f} loader cores.")
    report(rows)


def compare_all(
    measured: dict[str, Measurements], num_images: int, settings: ShrinkSettings
) -> list[Comparison]:
    """Both from originals, ours from copies with the peer from originals, and both from copies."""
    case = f"{num_images} images of {settings.source}"
    small = f"from copies of {settings.short_side} pixels"
    pairs = {
        case: (OURS, PEER),
        f"{case}, ours {small}": (OURS + COPIES, PEER),
        f"{case}, both {small}": (OURS + COPIES, PEER + COPIES),
    }
    return [
        compare_rates(case, measured[ours], measured[peer], num_images)
        for case, (ours, peer) in pairs.items()
    ]


def _prepare_copies(
    pipeline: list[dict], target: Path, settings: ShrinkSettings, num_images: int
) -> str:
    """Copy the images of the contest; returns a sentence about how the copies differ."""
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


def make_copies(names: Sequence[str], target: Path, settings: ShrinkSettings) -> float:
    """Copy some files of a folder as tools/shrink_images.py copies all.

    Returns:
        The bytes of the copies as a share of those of the originals.
    """
    copies = [copy_file(name, target, settings) for name in names]
    return sum(copy.after for copy in copies) / sum(copy.before for copy in copies)


def crop_differences(
    names: Sequence[str], source: Path, target: Path, scale: int, area: tuple[float, float]
) -> tuple[float, float]:
    """Compare crops of the copies with the same crops of the originals.

    Crops have the image's proportions. Pillow resizes both, so only the copies make a difference.

    Args:
        names: Inside both folders.
        scale: Side of the resized crops in pixels.
        area: Share of the image that a crop has, smallest and largest.

    Returns:
        Mean absolute differences of the pixels, of 255: copies from originals, and as a yardstick
        originals resized by a bilinear filter from a bicubic one.
    """
    rng = np.random.default_rng(0)
    differences = []
    for name in names:
        box = _draw(rng, area)
        original, copy = (
            Image.fromarray(decode((folder / name).read_bytes())) for folder in (source, target)
        )
        wanted = _pixels(original, box, scale, _BICUBIC)
        others = _pixels(copy, box, scale, _BICUBIC), _pixels(original, box, scale, _BILINEAR)
        differences.append([np.abs(wanted - other).mean() for other in others])
    from_copies, from_filter = np.mean(differences, axis=0)
    return float(from_copies), float(from_filter)


def _draw(rng: np.random.Generator, area: tuple[float, float]) -> np.ndarray:
    """Left, top, right and bottom of a part, as shares of width and height."""
    side = np.sqrt(rng.uniform(*area))
    corner = rng.uniform(0, 1 - side, 2)
    return np.concatenate([corner, corner + side])


def _pixels(
    image: Image.Image, box: np.ndarray, scale: int, resample: Image.Resampling
) -> np.ndarray:
    edges = box * (*image.size, *image.size)
    return np.array(image.resize((scale, scale), resample, tuple(edges)), np.int16)
