"""Position tables are resized by the rule of the system that a file is from, once."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from milan_mm.configs import load
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.positions import RESIZE_RULES
from milan_mm.pretrain import teacher_clip, teacher_timm
from milan_mm.run.encoder_weights import set_encoder_weights
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.reading import read_metadata
from milan_mm.weights.recognising import read_encoder, recognise
from milan_mm.weights.systems import SYSTEMS
from tests.helpers import TINY_ARCH, save_state
from tests.models.slow_resize import slow_resize
from tests.weights import zoo

# Systems whose own code does something else than torch's bicubic. AIMv2's does not resize; timm's
# form of it does.
OTHERS = {
    "DINO": "bicubic-offset",
    "iBOT": "bicubic-offset",
    "DINOv2": "bicubic-offset",
    "Franca": "bicubic-offset",
    "Web-DINO": "bicubic-offset",
    "CLIP": "bicubic-antialias",
    "open_clip": "bicubic-antialias",
    "MetaCLIP 2": "bicubic-antialias",
    "lightly": "bicubic-antialias",
    "solo-learn": "bicubic-antialias",
    "AIMv2": "bicubic-antialias",
    "TIPS": "bilinear-antialias",
    "PE": "bilinear",
    "C-RADIO": "bilinear",
    "timm": "bicubic-antialias",
    "timm classifier": "bicubic-antialias",
    "SWAG": "bicubic-corners",
    "torchvision": "bicubic-corners",
    "AugReg": "bilinear-corners",
    "SigLIP": "bilinear-corners",
    "SigLIP 2": "bilinear-corners",
}
RECIPES = (
    "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
    "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
    "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k-384x384",
)
STATS = dict(mean=[0.0] * 3, std=[1.0] * 3)


def dino_file(folder: Path) -> str:
    return str(save_state(zoo.dino_full().content, folder, "dino.pth"))


def built(sample: zoo.Sample, **options) -> PlainViT:
    encoder = recognise(sample.content, "a.pth", num_heads=zoo.HEADS)
    vit = PlainViT(**(encoder.model_settings() | dict(out_type="raw") | options)).eval()
    load_encoder(vit, encoder)
    return vit


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_row_of_a_system_says_how_its_code_resizes(name: str):
    assert SYSTEMS[name].resize_rule(num_registers=0) == OTHERS.get(name, "bicubic")
    is_scaled = OTHERS.get(name, "bicubic") if name != "DINOv2" else "bicubic-antialias"
    assert SYSTEMS[name].resize_rule(num_registers=4) == is_scaled


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("size", [(48, 48), (16, 16), (56, 24)])
def test_features_are_those_of_an_independent_resizing(rule: str, size: tuple[int, int]):
    sample = zoo.mae()
    imgs = torch.randn(2, 3, *size)
    with torch.no_grad():
        (features,) = built(sample, pos_resize=rule)(imgs)
        other = built(sample)
        table = slow_resize(other.pos_embed, (4, 4), (size[0] // 8, size[1] // 8), rule)
        other.grid_size, other.pos_embed.data = (size[0] // 8, size[1] // 8), table
        torch.testing.assert_close(features, other(imgs)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("size", [(48, 48), (16, 16), (56, 24)])
def test_on_loading_and_in_the_forward_pass_the_rule_is_one(rule: str, size: tuple[int, int]):
    sample = zoo.mae()
    imgs = torch.randn(2, 3, *size)
    with torch.no_grad():
        (at_forward,) = built(sample, pos_resize=rule)(imgs)
        (on_loading,) = built(sample, pos_resize=rule, img_size=size)(imgs)
    torch.testing.assert_close(on_loading, at_forward)


def test_a_model_that_would_resize_by_another_rule_is_refused():
    with pytest.raises(ValueError, match=r"needs a .* with pos_resize='bicubic-offset'"):
        built(zoo.dino_full(), pos_resize=None)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_the_rule_of_the_weights(recipe: str, tmp_path: Path):
    cfg = load(recipe)
    cfg.model.backbone.arch = TINY_ARCH
    notes = set_encoder_weights(cfg, dino_file(tmp_path), num_heads=zoo.HEADS)
    assert cfg.model.backbone.pos_resize == "bicubic-offset"
    assert any("model.backbone takes pos_resize='bicubic-offset' from" in note for note in notes)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_rule_that_the_user_wrote_out_is_kept(recipe: str, tmp_path: Path):
    cfg = load(recipe)
    cfg.model.backbone.update(arch=TINY_ARCH, pos_resize="bicubic")
    notes = set_encoder_weights(cfg, dino_file(tmp_path), num_heads=zoo.HEADS)
    assert cfg.model.backbone.pos_resize == "bicubic"
    assert not any("pos_resize" in note for note in notes)
    built(zoo.dino_full(), pos_resize="bicubic")  # accepted


def test_an_exported_encoder_keeps_the_rule(tmp_path: Path):
    out = tmp_path / "encoder.safetensors"
    export_encoder(read_encoder(dino_file(tmp_path), num_heads=zoo.HEADS), out)
    assert json.loads(read_metadata(out)["settings"])["pos_resize"] == "bicubic-offset"
    assert read_encoder(out).settings["pos_resize"] == "bicubic-offset"


def test_a_rule_that_only_the_system_suggests_is_assumed(tmp_path: Path):
    content = zoo.dino_backbone().content
    guessed = recognise(content, "a.pth", num_heads=zoo.HEADS)
    assert guessed.assumed["pos_resize"].startswith("'bicubic-antialias' for images of other sizes")
    given = recognise(content, "a.pth", num_heads=zoo.HEADS, system="DINO")
    assert given.settings["pos_resize"] == "bicubic-offset" and "pos_resize" not in given.assumed


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("vit_small_patch16_224.dino", "bicubic-offset"),
        ("vit_base_patch14_reg4_dinov2.lvd142m", "bicubic-antialias"),
        ("vit_tiny_patch16_224", "bicubic-antialias"),
    ],
)
def test_a_teacher_of_timm_resizes_as_its_system_does(name: str, rule: str):
    with torch.device("meta"):
        assert teacher_timm.fetch_tower(name, "random").options["pos_resize"] == rule


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("teacher", ["clip", "timm"])
def test_a_teacher_in_half_precision_is_resized_in_float32(
    teacher: str, suffix: str, tmp_path: Path
):
    module = teacher_clip if teacher == "clip" else teacher_timm
    ((name, shipped),) = module.SHIPPED.items()
    half = {key: tensor.half() for key, tensor in load_file(shipped).items()}
    path = tmp_path / f"half{suffix}"
    save_file(half, path) if suffix == ".safetensors" else torch.save(half, path)
    options = dict(projection_dims=128) if teacher == "timm" else {}
    vit = module.fetch_tower(name, str(path), **options).build((6, 9))
    (key,) = (key for key in half if key.endswith(("visual.positional_embedding", "pos_embed")))
    table = half[key].float().view(1, 145, -1)
    expected = slow_resize(table, (12, 12), (6, 9), vit.options.resize_rule)
    torch.testing.assert_close(vit.pos_embed, expected)
