"""`--img-size` moves all that a recipe lays out for the size of its images."""

from typing import Any

import pytest
from mmengine.config import Config

from milan_mm.configs import list_configs, load
from milan_mm.errors import UserError
from milan_mm.run.building import build_without_memory
from milan_mm.run.config_nodes import config_nodes
from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.run_options import RunOptions

MILAN = "milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes"
DETECTOR = "mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
SEGMENTOR = "upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"


def at(recipe: str, size: int, **options: Any) -> Config:
    cfg = load(recipe)
    prepare(cfg, RunOptions(img_size=size, **options), RECIPE)
    return cfg


def sizes(node: object) -> set[int]:
    """Every number of pixels that a part of a config states."""
    keys = ("scale", "size", "crop_size", "img_size", "pad_size_divisor", "stride")
    found = [part.get(key) for _, part in config_nodes(node) for key in keys]
    flat = [n for value in found for n in (value if isinstance(value, (list, tuple)) else [value])]
    return {n for n in flat if isinstance(n, int) and n > 1}


@pytest.mark.parametrize("recipe", list_configs())
def test_no_number_of_the_old_size_is_left(recipe: str):
    before, patch = load(recipe), load(recipe).model.backbone.patch_size
    size = patch * 25  # 200 or 400: no recipe's
    cfg = at(recipe, size)
    parts = (
        cfg.train_dataloader,
        cfg.get("test_dataloader") or {},
        cfg.get("val_dataloader") or {},
    )
    old = before.get("img_size") or before.crop_size
    old = old if isinstance(old, int) else old[0]
    for part in (*parts, cfg.model.data_preprocessor, cfg.model.get("test_cfg") or {}):
        assert old not in sizes(part)
    assert size in sizes(cfg.train_dataloader)
    if cfg.model.get("test_cfg", {}).get("mode") != "slide" or "mini" in recipe:
        return
    assert cfg.model.test_cfg.stride == (size * 2 // 3,) * 2
    assert cfg.model.backbone.img_size == 224  # of the position table, resized to each image


@pytest.mark.parametrize(
    ("recipe", "patches"), [("pretrain/" + MILAN, 8), (DETECTOR, 16), (SEGMENTOR, 16)]
)
def test_grids_follow_and_the_model_can_be_built(recipe: str, patches: int):
    size = patches * 10
    cfg = at(recipe, size)
    build_without_memory(cfg)
    model = cfg.model
    grids = [model.get("decoder", {}).get("grid_size"), model.backbone.get("rel_pos_grid")]
    assert [tuple(grid) for grid in grids if grid] == [(10, 10)] * (recipe != SEGMENTOR)
    if "teacher" in model.get("head", {}):
        assert model.head.teacher.grid_size == (10, 10)


def test_tests_have_a_margin_up_to_224_pixels_and_none_above():
    recipe = "finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
    for size, resized in ((112, 128), (224, 256), (384, 384)):
        assert at(recipe, size).test_dataloader.dataset.pipeline[1].scale == resized


@pytest.mark.parametrize(
    ("recipe", "size", "message"),
    [
        (
            DETECTOR,
            1000,
            "--img-size 1000: patches of 16 pixels do not divide it, take 992 or 1008",
        ),
        (MILAN, 3, "patches of 8 pixels do not divide it, take 8"),
    ],
)
def test_a_size_that_patches_do_not_divide_is_refused(recipe: str, size: int, message: str):
    with pytest.raises(UserError, match=message):
        at(recipe, size)


def test_a_size_that_is_said_twice_is_refused():
    with pytest.raises(UserError, match="--img-size and --cfg-options img_size=96 exclude"):
        at(MILAN, 96, cfg_options=["img_size=96"])


def test_a_config_without_names_for_its_sizes_is_refused(tmp_path):
    load(MILAN).dump(tmp_path / "dumped.py")
    with pytest.raises(
        UserError, match=r"derives nothing from 'img_size'.*model.backbone.img_size"
    ):
        at(str(tmp_path / "dumped.py"), 160)
