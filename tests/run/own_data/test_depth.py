"""`--data` with depth: images and depth maps of any names, sizes and unit."""

from pathlib import Path

import pytest

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.run.checks.content import check_content
from milan_mm.run.own_data import set_own_data
from tests.dense_layouts import random_pairs, write_layout

LOADERS = ("train_dataloader", "val_dataloader")


def own(tmp_path: Path) -> Path:
    """Pairs without digits in their names, the folders called as by a user."""
    root = write_layout("nyu-depth", tmp_path, random_pairs("nyu-depth", 2, (40, 56)))
    (root / "annotations").rename(root / "depth")
    for kind in ("images", "depth"):
        (root / kind / "test").rename(root / kind / "val")
        for path in (root / kind).rglob("*_0*"):
            path.rename(
                path.with_stem(path.stem.translate(str.maketrans("0123456789", "abcdefghij")))
            )
    return root


def test_depth_maps_are_found_and_nothing_of_nyu_remains(tmp_path: Path):
    cfg = load(recipe_name("nyu-depth", "base"))
    lines = set_own_data(cfg, str(own(tmp_path)))
    assert "2 pairs of" in lines[0] and "have a depth, from 0.80 to 6.20 m" in lines[0]
    assert "validation images are training images too" in "".join(check_content(cfg, LOADERS))
    for loader in (*LOADERS, "test_dataloader"):
        dataset = cfg[loader].dataset
        assert dataset.type == "milan_mm.DepthPairs" and "CropFrame" not in str(dataset.pipeline)
    assert cfg.val_evaluator.crop_type is cfg.test_evaluator.crop_type is None


def test_another_unit_is_refused_with_the_field_that_sets_it(tmp_path: Path):
    cfg = load(recipe_name("nyu-depth", "base"))
    for loader in (*LOADERS, "test_dataloader"):
        for transform in cfg[loader].dataset.pipeline:
            if transform.type == "milan_mm.LoadDepth":
                transform.scale = 100.0
    with pytest.raises(UserError, match=r"at 100 units in a metre: set LoadDepth\.scale"):
        set_own_data(cfg, str(own(tmp_path)))
