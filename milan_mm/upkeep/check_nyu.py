"""NYU Depth v2 in the folders that mmseg reads: pairs of images and depth maps in millimetres."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from milan_mm.datasets.conversion import command
from milan_mm.datasets.depth import LoadDepth, read_depth
from milan_mm.datasets.inspecting import read_image
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import map_in_processes
from milan_mm.upkeep.reading import list_files, rgb_pixels, spread
from milan_mm.visualization.contact_sheet import NUM_CELLS, Cell, fit_scale
from milan_mm.visualization.style import colour_map

NUM_PAIRS = dict(train=24_231, test=654)  # of the lists of BTS, which DINOv2 and DINOv3 use
MAX_DEPTH, SCALE = 10.0, 1000.0  # metres, and units of a file in a metre
_TYPICAL = (0.5, 9.0)  # metres: medians of single images of rooms are well inside


class Pair(NamedTuple):
    """What reading an image and its depth map gave.

    Attributes:
        image_error, depth_error: Why one of them cannot be used, or ''.
        sizes: (height, width) of both, where both could be read.
        median: Of the depths, in metres; 0 without any.
        measured: Share of the pixels that have a depth.
    """

    image_error: str
    depth_error: str
    sizes: tuple[tuple[int, int], tuple[int, int]] | None
    median: float = 0.0
    measured: float = 0.0


def check_nyu(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{images,annotations}/{train,test}, every image and every depth map.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Images beside their depths for the contact sheet.
    """
    sound = {}
    for split, wanted in NUM_PAIRS.items():
        names = _pair(root, split, findings)
        findings.compare_count(f"pairs in {split}", len(names), wanted)
        sound[split] = _check_pairs(root, split, names, findings, num_workers)
    training, test = ([(split, name) for name in sound[split]] for split in NUM_PAIRS)
    return [_draw(root, *sample) for sample in spread(training, test, NUM_CELLS)]


def _again(root: Path) -> str:
    return f"make the folders from the archive: {command('nyu', root.parent / 'nyu.zip')}"


def _pair(root: Path, split: str, findings: Findings) -> list[str]:
    """Names, without ending, that have both an image and a depth map."""
    found = {}
    for kind, ending in (("images", ".jpg"), ("annotations", ".png")):
        folder = root / kind / split
        if not folder.is_dir():
            findings.add("folders are missing", _again(root), [str(folder)])
            return []
        files = list_files(folder, nested=True)
        found[kind] = {name.removesuffix(ending) for name in files if name.endswith(ending)}
    images, depths = found["images"], found["annotations"]
    alone = [f"images/{split}/{name}.jpg" for name in sorted(images - depths)]
    findings.add("images have no depth map", _again(root), alone)
    alone = [f"annotations/{split}/{name}.png" for name in sorted(depths - images)]
    findings.add("depth maps have no image", _again(root), alone)
    unnamed = [f"images/{split}/{n}.jpg" for n in sorted(images) if not _has_digit(n)]
    findings.add(
        "names have no digit, and mmseg reads the kind of room from what comes before it",
        "keep the names of the archive; for photos of your own, pass --data DIR",
        unnamed,
    )
    return sorted(images & depths)


def _has_digit(name: str) -> bool:
    return any(letter.isdigit() for letter in name.rpartition("/")[2])


def _check_pairs(
    root: Path, split: str, names: list[str], findings: Findings, num_workers: int
) -> list[str]:
    """Read every pair; returns the names of sound ones."""
    unreadable, unmeasured, unequal, empty, unusual = [], [], [], [], []
    sound, medians, shares = [], [], []
    read = partial(_read_pair, root, split)
    for name, pair in zip(
        names, map_in_processes(read, names, num_workers, f"reading {split}"), strict=True
    ):
        image, depth = f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png"
        if pair.image_error:
            unreadable.append(f"{image}: {pair.image_error}")
        if pair.depth_error:
            unmeasured.append(pair.depth_error)
        if pair.sizes and pair.sizes[0] != pair.sizes[1]:
            (height, width), (depth_height, depth_width) = pair.sizes
            unequal.append(
                f"{depth} has {depth_width}x{depth_height} pixels, its image {width}x{height}"
            )
        elif pair.sizes and not pair.measured:
            empty.append(depth)
        elif pair.sizes:
            sound.append(name)
            medians.append(pair.median)
            shares.append(pair.measured)
    typical = float(np.median(medians)) if medians else 1.0
    if not _TYPICAL[0] <= typical <= _TYPICAL[1]:
        unusual.append(f"the median depth of {split} is {typical:.3g} m, if files are millimetres")
    findings.add("images cannot be read", _again(root), unreadable)
    findings.add("depth maps cannot be read", _again(root), unmeasured)
    findings.add("depth maps have another size than their image", _again(root), unequal)
    findings.add("depth maps have no depth", _again(root), empty)
    findings.add(
        "depths are no depths of rooms in metres",
        f"files hold millimetres, {SCALE:g} in a metre: {_again(root)}",
        unusual,
    )
    if medians:
        findings.notes.append(
            f"{split}: the median depth is {typical:.2f} m, {np.mean(shares):.1%} of the pixels "
            "have a depth"
        )
    return sound


def _read_pair(root: Path, split: str, name: str) -> Pair:
    image_path = root / "images" / split / f"{name}.jpg"
    path = str(root / "annotations" / split / f"{name}.png")
    image = read_image(image_path)
    try:
        depth = LoadDepth(MAX_DEPTH, SCALE).in_metres(path, read_depth(path, str(image_path)))
    except ValueError as error:
        return Pair(image.error, str(error), None)
    sizes = (image.size, depth.shape) if image.size else None
    measured = depth[depth > 0]
    median = float(np.median(measured)) if measured.size else 0.0
    return Pair(image.error, "", sizes, median, measured.size / depth.size)


def _draw(root: Path, split: str, name: str) -> Cell:
    """An image beside its depths, at the size of a cell; the caption has their range."""
    pixels = rgb_pixels(root / "images" / split / f"{name}.jpg")
    path = str(root / "annotations" / split / f"{name}.png")
    depth = LoadDepth(MAX_DEPTH, SCALE).in_metres(path, read_depth(path))
    shown = colour_map("depth")(np.where(depth > 0, depth / MAX_DEPTH, np.nan))[..., :3]
    both = np.hstack([pixels, (shown * 255).astype(np.uint8)])
    scale = fit_scale(both.shape[0], both.shape[1])
    size = (max(1, round(both.shape[1] * scale)), max(1, round(both.shape[0] * scale)))
    picture = cv2.resize(both, size, interpolation=cv2.INTER_AREA)
    measured = depth[depth > 0]
    low, high = (measured.min(), measured.max()) if measured.size else (0.0, 0.0)
    return Cell(picture, f"{name.rpartition('/')[2]}: {low:.1f} to {high:.1f} m")
