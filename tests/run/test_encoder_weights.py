"""`--weights` makes the config's encoder the one of the file, and keeps what the user wrote."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS
from milan_mm.registry import MODELS
from milan_mm.run.encoder_weights import set_encoder_weights, set_load_report
from milan_mm.weights.encoder import DEFAULTS, Encoder
from milan_mm.weights.names import SHIPPED
from milan_mm.weights.recognising import read_encoder
from milan_mm.weights.statistics import stats_values
from tests.helpers import STATS, TINY_ARCH, milan_config, save_state, tiny_vit
from tests.weights.zoo import SYSTEMS, timm_vit

RGB = dict(STATS, to_rgb=True)
HALF = [127.5, 127.5, 127.5]


def config(**backbone) -> Config:
    """A transfer recipe, as far as it matters here."""
    sizes = dict(type="milan_mm.PlainViT", arch=TINY_ARCH, img_size=32, patch_size=8)
    return Config(dict(model=dict(backbone=sizes | backbone, data_preprocessor=dict(RGB))))


def weights(system: str, folder: Path) -> str:
    return str(save_state(SYSTEMS[system](folder).content, folder))


def test_weights_need_a_backbone(tmp_path: Path):
    file = save_state(tiny_vit().state_dict(), tmp_path)
    with pytest.raises(ValueError, match=r"has no model\.backbone"):
        set_encoder_weights(Config(dict(model={})), str(file))


@pytest.mark.parametrize(("kind", "scope"), [("mmdet.ResNet", None), ("ResNet", "mmdet")])
def test_a_backbone_of_another_kind_is_refused(tmp_path: Path, kind: str, scope: str | None):
    file = save_state(tiny_vit().state_dict(), tmp_path)
    cfg = Config(dict(model=dict(backbone=dict(type=kind, depth=50)), default_scope=scope))
    with pytest.raises(UserError, match=r"model\.backbone of .* is a ResNet: set .*init_cfg"):
        set_encoder_weights(cfg, str(file), num_heads=4)


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("beit", "has relative position bias, which needs all patches"),
        ("siglip", "has no class token, which pretraining needs: take an encoder with one"),
        ("finetuned_mae", "has no norm after its last block, which pretraining needs"),
    ],
)
def test_pretraining_cannot_continue_from_every_encoder(tmp_path: Path, system: str, message: str):
    cfg = config()
    cfg.model.decoder = dict(type="milan_mm.MAEDecoder")
    with pytest.raises(UserError, match=message):
        set_encoder_weights(cfg, weights(system, tmp_path))


@pytest.mark.parametrize(
    "system",
    [
        "mae",
        "beit",
        "beit_finetuned",
        "cae",
        "openai_clip",
        "dinov2",
        "dinov3",
        "hf_vit",
        "dinov2_giant",
        "siglip",
        "aimv2",
        "ijepa",
        "pe",
        "eva02",
    ],
)
@pytest.mark.parametrize("dense", [False, True])
def test_any_system_fills_the_backbone_of_a_recipe(tmp_path: Path, system: str, dense: bool):
    settings = dict(with_cls_token=False, window_size=2, rel_pos_grid=(4, 4)) if dense else {}
    cfg = config(final_norm=False, **settings)
    set_encoder_weights(cfg, weights(system, tmp_path))
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    assert vit(torch.randn(1, 3, 32, 32))[0].shape == (1, 48, 4, 4)


def test_an_mae_file_changes_nothing_but_the_weights(tmp_path: Path):
    cfg = config()
    assert set_encoder_weights(cfg, weights("mae", tmp_path)) == []
    assert cfg.model.backbone.keys() - config().model.backbone.keys() == {"init_cfg"}
    assert cfg.model.data_preprocessor == RGB


def test_options_and_statistics_come_from_the_file_and_are_noted(tmp_path: Path):
    cfg = config()
    notes = set_encoder_weights(cfg, weights("beit", tmp_path))
    assert cfg.model.backbone.rel_pos_bias_grid == (4, 4)
    assert cfg.model.data_preprocessor.mean == HALF == cfg.model.data_preprocessor.std
    assert "layer_scale=0.1, with_pos_embed=False, rel_pos_bias_grid=(4, 4)" in notes[0]
    assert "statistics 'half', assumed: 'half', of BEiT's own recipe" in notes[1]


def test_statistics_are_in_the_order_of_the_images_channels(tmp_path: Path):
    cfg = config()
    cfg.model.data_preprocessor = dict(mean=[0.0] * 3, std=[1.0] * 3)  # BGR
    set_encoder_weights(cfg, weights("openai_clip", tmp_path))
    assert cfg.model.data_preprocessor.mean == [104.094, 116.746, 122.771]


def test_what_the_user_wrote_is_kept(tmp_path: Path):
    cfg = config(layer_scale=1e-3)
    fixed = ["model.data_preprocessor.mean", "model.data_preprocessor.std"]
    set_encoder_weights(cfg, weights("beit", tmp_path), fixed=fixed)
    assert cfg.model.backbone.layer_scale == 1e-3
    assert cfg.model.data_preprocessor == RGB


def test_pretraining_keeps_the_statistics_that_its_teacher_shares(tmp_path: Path):
    cfg = Config(dict(model=milan_config()))
    cfg.model.backbone.arch = TINY_ARCH
    before = cfg.model.data_preprocessor.to_dict()
    set_encoder_weights(cfg, weights("augreg_torch", tmp_path))
    assert cfg.model.data_preprocessor.to_dict() == before


@pytest.mark.parametrize(
    "name",
    [
        "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
        "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
        "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k",
    ],
)
def test_every_recipes_images_get_the_statistics_of_the_file(tmp_path: Path, name: str):
    cfg = load(name)
    cfg.model.backbone.arch = TINY_ARCH
    set_encoder_weights(cfg, weights("beit", tmp_path))
    preprocessors = [cfg.model.get("data_preprocessor"), cfg.get("data_preprocessor")]
    means = [list(p.mean) for p in preprocessors if p and "mean" in p]
    assert means and all(mean == HALF for mean in means)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("mae", ["pos_embed", "cls_token"]),
        ("beit", ["cls_token"]),
        ("dinov3", ["cls_token", "register_tokens"]),
    ],
)
def test_weight_decay_spares_the_parameters_that_the_encoder_has(
    tmp_path: Path, system: str, expected: list[str]
):
    cfg = load("cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k")
    cfg.model.backbone.arch = TINY_ARCH
    set_encoder_weights(cfg, weights(system, tmp_path))
    assert cfg.optim_wrapper.paramwise_cfg.no_decay_names == expected


@pytest.mark.parametrize(
    ("recipe", "remedy"),
    [
        (
            "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
            "take det/mask-rcnn_vit-large",
        ),
        (
            "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes",
            "take cls/finetune_vit-large.* or ",
        ),
        ("pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k", "take pretrain/milan_vit-large"),
    ],
)
def test_another_size_is_refused_with_the_recipe_of_that_size(recipe: str, remedy: str):
    encoder = Encoder("a.pth", "timm", {}, dict(arch=ARCHS["large"]), "MAE", "imagenet", "mean")
    message = rf"a\.pth has 24 blocks of width 1024 \(ViT-large\), '.*' is for .*: {remedy}"
    with pytest.raises(ValueError, match=message):
        set_encoder_weights(load(recipe), encoder)


def test_a_size_without_a_recipe_is_refused_with_the_options_to_set():
    arch = dict(embed_dims=1280, num_layers=32, num_heads=16)
    encoder = Encoder("a.pth", "timm", {}, dict(arch=arch), "MAE", "imagenet", "mean")
    message = r"32 blocks of width 1280 \(ViT-huge\), .*: set model\.backbone\.arch"
    with pytest.raises(ValueError, match=message):
        set_encoder_weights(config(), encoder)


def test_statistics_of_any_numbers_reach_the_recipe():
    settings = DEFAULTS | dict(arch=TINY_ARCH, img_size=32, patch_size=8)
    settings |= dict(with_cls_token=True, final_norm=True)
    stats = "mean 0.1 0.2 0.3 std 0.25 0.25 0.3"
    cfg = config()
    set_encoder_weights(cfg, Encoder("a.pth", "timm", {}, settings, "MAE", stats, "mean"))
    assert cfg.model.data_preprocessor.mean == [25.5, 51.0, 76.5]
    assert cfg.model.data_preprocessor.std == [63.75, 63.75, 76.5]


def test_a_file_without_class_token_makes_a_model_without_one(tmp_path: Path):
    model = timm_vit(class_token=False, global_pool="avg", fc_norm=False)
    cfg = config()
    set_encoder_weights(cfg, str(save_state(model.state_dict(), tmp_path)))
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    assert not vit.with_cls_token


def test_a_probe_of_a_file_without_final_norm_does_without_it_and_says_so(tmp_path: Path):
    cfg = load("cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k")
    cfg.model.backbone.update(arch=TINY_ARCH)
    notes = set_encoder_weights(cfg, weights("maskfeat", tmp_path))
    assert "model.backbone takes final_norm=False from" in notes[0]
    MODELS.build(cfg.model.backbone).init_weights()


def test_what_the_user_said_about_the_file_holds_for_the_training_too(tmp_path: Path):
    cfg, file = config(), weights("dino_full", tmp_path)
    set_encoder_weights(cfg, file, student=True, num_heads=4)
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    student = torch.load(file, weights_only=True)["student"]
    assert torch.equal(vit.cls_token, student["module.backbone.cls_token"])
    with pytest.raises(ValueError, match="6 attention heads"):
        set_encoder_weights(cfg, file, student=True, num_heads=6)
        MODELS.build(cfg.model.backbone).init_weights()


def test_a_file_of_two_layouts_is_decided(tmp_path: Path):
    content = timm_vit().state_dict() | SYSTEMS["open_clip"](tmp_path).content["state_dict"]
    file = str(save_state(content, tmp_path))
    with pytest.raises(ValueError, match=r"more than one layout, timm .* and clip"):
        set_encoder_weights(config(), file)
    cfg = config()
    set_encoder_weights(cfg, file, layout="clip", system="CLIP")
    assert cfg.model.backbone.act == "QuickGELU"
    MODELS.build(cfg.model.backbone).init_weights()


def test_the_load_report_is_saved_in_the_work_directory(tmp_path: Path):
    cfg = config(final_norm=False)
    set_encoder_weights(cfg, weights("mae", tmp_path))
    cfg.work_dir = str(tmp_path / "run")
    set_load_report(cfg)
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    report = json.loads((tmp_path / "run/encoder_weights.json").read_text())
    assert report["system"] == "MAE" and report["layout"] == "timm"
    assert report["counts"]["loaded"] == len(report["loaded"]) == len(vit.state_dict())
    assert report["dropped"] == ["ln1.weight", "ln1.bias"]
    assert report["left_out"]["mask_token"] == "mask token of the pretraining"
    assert "pooling" in report["assumed"]


def test_a_run_without_weights_writes_no_load_report(tmp_path: Path):
    cfg = config()
    cfg.work_dir = str(tmp_path)
    set_load_report(cfg)
    assert "init_cfg" not in cfg.model.backbone


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_encoder_trains_by_its_name(name: str):
    expected = read_encoder(name)
    cfg = config(arch=expected.settings["arch"])
    set_encoder_weights(cfg, name)
    backbone = cfg.model.backbone
    assert backbone.arch["num_heads"] == expected.settings["arch"]["num_heads"]
    model = MODELS.build(dict(backbone) | dict(img_size=96))
    model.init_weights()
    assert torch.equal(model.cls_token, expected.state_dict["cls_token"])
    mean = [255 * value for value in stats_values(expected.stats)[0]]
    assert cfg.model.data_preprocessor.mean == pytest.approx(mean)


@pytest.mark.parametrize(("system", "own"), [("siglip", "attn_pool"), ("ijepa", "avg_featmap")])
def test_a_class_token_probe_of_an_encoder_without_one_is_refused_with_the_way_out(
    tmp_path: Path, system: str, own: str
):
    cfg = config(out_type="cls_token")
    with pytest.raises(UserError, match=rf"has no class token.*out_type={own}"):
        set_encoder_weights(cfg, weights(system, tmp_path), num_heads=4)
    cfg = config(out_type=own)
    set_encoder_weights(cfg, weights(system, tmp_path), num_heads=4)
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    assert vit(torch.randn(1, 3, 32, 32))[0].shape == (1, 48)
