"""Patches of another size: resampled where a recipe is laid out for its own, and reported."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from timm.models.vision_transformer import checkpoint_filter_fn

from milan_mm.configs import load
from milan_mm.models.plain_vit import PlainViT
from milan_mm.registry import MODELS
from milan_mm.run.encoder_weights import set_encoder_weights, set_load_report
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.recognising import recognise
from tests.helpers import TINY_ARCH, save_state
from tests.weights.zoo import HEADS, timm_vit

DET = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
SEG = "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"
FINETUNE = "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
PROBE = "cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k"


def dinov2(folder: Path, **settings) -> str:
    """A tiny encoder with patches of 14 pixels on a grid of 5x5."""
    sizes = dict(img_size=70, patch_size=14, init_values=0.5, no_embed_class=True)
    return str(save_state(timm_vit(**(sizes | settings)).state_dict(), folder))


def with_weights(recipe: str, file: str, **options) -> tuple[Config, list[str]]:
    cfg = load(recipe)
    cfg.model.backbone.arch = TINY_ARCH
    cfg.model.backbone.pop("global_layers", None)
    if recipe == SEG:
        cfg.model.backbone.out_indices = (0, 1, 2)
    return cfg, set_encoder_weights(cfg, file, **options)


def test_features_on_resampled_patches_are_those_of_timm():
    source = timm_vit()
    theirs = timm_vit(img_size=64, patch_size=16)  # the same grid of 4x4
    theirs.load_state_dict(checkpoint_filter_fn(source.state_dict(), theirs))
    own = dict(out_type="raw", pos_resize="bicubic-antialias")
    ours = PlainViT(TINY_ARCH, img_size=64, patch_size=16, **own).eval()
    report = load_encoder(ours, recognise(source.state_dict(), "a.pth", num_heads=HEADS))
    imgs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(imgs)[0], theirs.forward_features(imgs), rtol=0, atol=1e-5)
    assert report.resized == ["patch_embed.projection.weight (48, 3, 8, 8) to (48, 3, 16, 16)"]


def test_a_scaled_patch_keeps_its_token():
    """What the resampling is for, whoever does it: <B x, w'> = <x, w>."""
    source = timm_vit()
    ours = PlainViT(TINY_ARCH, img_size=56, patch_size=14, pos_resize="bicubic-antialias")
    load_encoder(ours, recognise(source.state_dict(), "a.pth", num_heads=HEADS))
    patch = torch.randn(5, 3, 8, 8)
    scaled = F.interpolate(patch, (14, 14), mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = source.patch_embed.proj(patch).flatten(1)[:, None]  # (5, 1, D)
        torch.testing.assert_close(ours.patch_embed(scaled), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", [DET, SEG])
def test_dense_recipes_keep_their_patches_and_the_grid_of_the_file(recipe: str, tmp_path: Path):
    cfg, notes = with_weights(recipe, dinov2(tmp_path))
    assert cfg.model.backbone.patch_size == 16
    assert cfg.model.backbone.img_size == 5 * 16
    assert any("resampled from patches of 14 to 16 pixels" in note for note in notes)
    cfg.work_dir = str(tmp_path)
    set_load_report(cfg)
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    resized = json.loads((tmp_path / "encoder_weights.json").read_text())["resized"]
    assert resized[-1] == "patch_embed.projection.weight (48, 3, 14, 14) to (48, 3, 16, 16)"
    # a model without class token takes no row for it
    assert resized[:-1] == (["pos_embed (1, 26, 48) to (1, 25, 48)"] if recipe == DET else [])


@pytest.mark.parametrize("recipe", [FINETUNE, PROBE])
def test_where_one_vector_is_wanted_the_encoder_keeps_its_patches(recipe: str, tmp_path: Path):
    cfg, notes = with_weights(recipe, dinov2(tmp_path))
    backbone = cfg.model.backbone
    assert (backbone.patch_size, backbone.img_size) == (14, 224)
    assert any("takes patch_size=14" in note for note in notes)
    vit = MODELS.build(backbone)
    vit.init_weights()
    assert vit.grid_size == (16, 16)


def test_images_that_its_patches_do_not_divide_get_those_of_the_recipe(tmp_path: Path):
    cfg, _ = with_weights(FINETUNE + "-384x384", dinov2(tmp_path))
    assert cfg.model.backbone.patch_size == 16


def test_sizes_that_the_user_wrote_are_kept(tmp_path: Path):
    fixed = ["model.backbone.patch_size", "model.backbone.img_size"]
    cfg, _ = with_weights(FINETUNE, dinov2(tmp_path), fixed=fixed)
    assert cfg.model.backbone.patch_size == 16
    cfg, _ = with_weights(DET, dinov2(tmp_path), fixed=fixed)
    assert cfg.model.backbone.img_size == 224


def test_a_file_of_the_recipes_own_sizes_changes_neither(tmp_path: Path):
    for recipe in (DET, SEG, FINETUNE):
        file = dinov2(tmp_path, img_size=224, patch_size=16)
        cfg, notes = with_weights(recipe, file)
        assert (cfg.model.backbone.patch_size, cfg.model.backbone.img_size) == (16, 224)
        assert not any("patch" in note or "positions" in note for note in notes)


def test_patches_that_are_not_square_are_refused():
    state = timm_vit().state_dict()
    state["patch_embed.proj.weight"] = torch.randn(48, 3, 8, 16)
    with pytest.raises(ValueError, match=r"patch_embed\.proj\.weight.*square patches"):
        recognise(state, "a.pth", num_heads=HEADS)
