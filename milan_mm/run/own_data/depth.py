"""Depth on any folder of images and depth maps."""

from pathlib import Path

import numpy as np
from mmengine.config import Config

from milan_mm.datasets.depth import LoadDepth, read_depth
from milan_mm.datasets.folders import SPLITS, spread
from milan_mm.datasets.labels import UnreadableLabelError
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.datasets.pair_folder import DEPTHS, find_pairs, pair_names
from milan_mm.errors import UserError
from milan_mm.run.config_nodes import evaluators_of, type_name
from milan_mm.run.own_data.judged import JUDGED
from milan_mm.run.own_data.settings import set_dataset, transforms_of
from milan_mm.run.records.record import Recorded

SAMPLE = 32  # depth maps that are looked into, per split


def use_depth_pairs(cfg: Config, root: Path, tested: Recorded | None = None) -> list[str]:
    """Read images and depth maps of 16 bits per pixel, in the unit that the recipe's loader states.

    The frame of NYU's images and the part of them that its metric counts are left out of it: every
    pixel counts that has a depth.

    Args:
        tested: See `set_own_data`.

    Raises:
        MissingFileError: When a split, or the partner of a file, is missing.
        UserError: When the files are not depth maps.
    """
    loaders = dict(train_dataloader="train", val_dataloader="val", test_dataloader="val")
    if tested:
        del loaders["train_dataloader"]
    reader = _reader(cfg)
    lines, found = [], {}
    for split in dict.fromkeys(loaders.values()):
        names = JUDGED if tested else SPLITS[split]
        images, depths = find_pairs(root, split, names, DEPTHS, "depth maps")
        stems, img_suffix, depth_suffix = pair_names(images, depths)
        files = [depths / (stem + depth_suffix) for stem in stems]
        lines.append(
            f"{len(stems)} pairs of '{images}' and '{depths}'; "
            + _look_into(files, reader, is_training=split == "train")
        )
        found[split] = dict(
            data_prefix=dict(
                img_path=str(images.relative_to(root)), seg_map_path=str(depths.relative_to(root))
            ),
            img_suffix=img_suffix,
            seg_map_suffix=depth_suffix,
        )
    for loader, split in loaders.items():
        set_dataset(cfg, loader, type="milan_mm.DepthPairs", data_root=str(root), **found[split])
        for dataset in (cfg[loader].dataset,):
            if pipeline := dataset.get("pipeline"):
                dataset.pipeline = [t for t in pipeline if type_name(t) != "CropFrame"]
    for loader in ("val_dataloader", "test_dataloader"):
        for metric in evaluators_of(cfg, loader):
            if "crop_type" in metric:
                metric.crop_type = None
    return lines


def _reader(cfg: Config) -> LoadDepth:
    """The recipe's own, with its unit and its largest depth."""
    for transform in transforms_of(cfg, "val_dataloader"):
        if transform.get("type") == "milan_mm.LoadDepth":
            return LoadDepth(**{k: v for k, v in transform.items() if k not in ("type", "_scope_")})
    raise UserError(
        f"--data: {cfg.filename} has no milan_mm.LoadDepth in its pipelines: start from a recipe "
        "of depth/"
    )


def _look_into(files: list[Path], reader: LoadDepth, is_training: bool) -> str:
    """Check a sample of depth maps, spread over all; says what depths they have.

    Raises:
        UserError: When a file is not a depth map, or none has a depth.
    """
    chosen = spread(files, min(len(files), SAMPLE))
    depths, pixels, damaged = [], 0, 0
    for path in chosen:
        try:
            depth = reader.in_metres(str(path), read_depth(str(path)))
        except UnreadableLabelError:
            damaged += 1  # training skips and counts them, see `LoadDepth`
            if not is_training or damaged > MAX_FAILED_SHARE * len(files):
                raise
            continue
        depths.append(depth[depth > 0])
        pixels += depth.size
    values = np.concatenate(depths) if depths else np.zeros(0)
    if not values.size:
        raise UserError(
            f"no pixel of {len(chosen)} files in '{files[0].parent}' has a depth above 0 and up to "
            f"{reader.max_depth:g} m, at {reader.scale:g} units in a metre: correct the files, or "
            "scale and max_depth of LoadDepth"
        )
    return (
        f"{values.size / pixels:.1%} of the pixels of {len(chosen)} depth maps have a depth, from "
        f"{values.min():.2f} to {values.max():.2f} m, the median is {np.median(values):.2f} m"
    )
