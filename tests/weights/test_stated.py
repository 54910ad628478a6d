"""What a file says of itself is taken, or the file is refused; `assumed` holds only the rest."""

import json
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models import VisionTransformer as MMViT
from open_clip.constants import HF_CONFIG_NAME
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn

from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.recognising import read_encoder, recognise
from milan_mm.weights.stated.training import training_facts
from tests.helpers import randomise
from tests.weights import zoo
from tests.weights.test_hub import CONFIG, write
from tests.weights.zoo import D, mm_sizes, mm_tokens, prefixed, sizes

OWN = dict(mean=(0.1, 0.2, 0.3), std=(0.25, 0.25, 0.3))
OWN_TEXT = "mean 0.1 0.2 0.3 std 0.25 0.25 0.3"


def assert_same_tokens(encoder: Encoder, expected: Tensor, imgs: Tensor) -> None:
    vit = PlainViT(**encoder.model_settings(), out_type="raw").eval()
    load_encoder(vit, encoder)
    with torch.no_grad():
        torch.testing.assert_close(vit(imgs)[0], expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------ timm
def timm_folder(folder: Path, name: str, **args) -> nn.Module:
    """A folder as timm itself saves it."""
    model = randomise(timm.create_model(name, **(sizes() | args))).eval()
    save_for_hf(model, folder, model_args=sizes() | args, safe_serialization=True)
    return model


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("vit_base_patch16_224", dict(num_heads=12), {}),
        ("vit_base_patch16_224", dict(act_layer="gelu_tanh"), dict(act="GELUTanh")),
        ("vit_base_patch16_clip_quickgelu_224", {}, dict(act="QuickGELU", norm_eps=1e-5)),
        ("vit_base_patch16_siglip_gap_224", dict(act_layer="gelu_tanh"), dict(act="GELUTanh")),
        ("deit_base_distilled_patch16_224", {}, dict(num_registers=1)),
        ("vit_small_patch14_reg4_dinov2", dict(num_heads=6), dict(num_registers=4)),
        ("vit_small_patch16_dinov3_qkvb", dict(num_heads=12), dict(rope_base=100.0)),
        ("beit_base_patch16_224", {}, dict(rel_pos_bias_grid=(4, 4))),
        ("vit_giant_patch14_dinov2", {}, dict(act="SwiGLU", mlp_dims=128)),
        ("vit_small_plus_patch16_dinov3", dict(num_heads=12), dict(act="SwiGLU")),
        ("vit_so400m_patch16_siglip_256", {}, dict(act="GELUTanh", pool_heads=4)),
        ("aimv2_large_patch14_224", {}, dict(act="SwiGLU", norm="RMS", mlp_dims=132)),
        ("vit_huge_patch14_gap_224", {}, dict(with_cls_token=False)),
        ("vit_pe_core_base_patch16_224", dict(ref_feat_shape=(4, 4)), dict(rope_kind="pe")),
        ("vit_pe_spatial_base_patch16_512", dict(ref_feat_shape=(4, 4)), dict(rope_kind="pe")),
        ("vit_pe_lang_gigantic_patch14_448", dict(ref_feat_shape=(4, 4)), dict(final_norm=False)),
        ("eva_giant_patch14_224", {}, dict(act="GELU", rope_base=None)),
        ("eva02_base_patch14_224", dict(ref_feat_shape=(8, 8)), dict(rope_grid=(8, 8))),
        ("eva02_tiny_patch14_224", {}, dict(rope_kind="eva02", act="SwiGLU")),
        ("vit_base_patch16_radio_v3", {}, dict(num_registers=7, final_norm=False)),
    ],
)
def test_timms_architecture_and_arguments_decide(
    tmp_path: Path, name: str, args: dict, expected: dict
):
    model = timm_folder(tmp_path, name, **args)
    encoder = read_encoder(tmp_path)
    assert {key: encoder.settings[key] for key in expected} == expected
    assert encoder.settings["arch"]["num_heads"] == args.get("num_heads", zoo.HEADS)
    assert not {"num_heads", "act", "norm_eps", "stats"} & encoder.assumed.keys()
    imgs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_same_tokens(encoder, model.forward_features(imgs), imgs)


@pytest.mark.parametrize(
    "name",
    [
        "vit_small_patch16_rope_ape_224",
        "vit_base_patch16_rope_reg1_gap_256",
        "vit_base_patch16_rpn_224",
    ],
)
def test_an_architecture_of_timm_that_is_no_plain_vit_is_refused(tmp_path: Path, name: str):
    timm_folder(tmp_path, name)
    with pytest.raises(ValueError, match=rf"architecture '{name}', timm's .*: not a plain ViT"):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(architecture="vit_of_tomorrow"), "'vit_of_tomorrow' .*--system"),
        (dict(architecture=7), r"architecture 7 .*--system"),
        (dict(model_args=dict(depth=10**9)), "with which no model is built"),
        (dict(model_args=[1]), "with which no model is built"),
        (dict(model_args=dict(surprise=1)), "timm cannot build .* with {'surprise': 1}"),
        (dict(model_args=sizes() | dict(num_heads=5)), "timm cannot build"),
        (dict(model_args=sizes() | dict(act_layer="silu")), "activation SiLU"),
        (dict(model_args=sizes() | dict(depth=2)), "says num_layers=2, the tensors 3"),
        (dict(model_args=sizes() | dict(embed_dim=64)), "says embed_dims=64, the tensors 48"),
        (dict(pretrained_cfg=dict(mean=[0.5, 0.5], std=0.5)), r"mean=\[0.5, 0.5\] must be one"),
        (dict(pretrained_cfg=dict(mean=0.5, std=0)), "std=0 must be positive"),
    ],
)
def test_a_config_of_timm_that_cannot_be_followed_is_refused(
    tmp_path: Path, changes: dict, message: str
):
    timm_folder(tmp_path, "vit_base_patch16_224")
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_encoder(tmp_path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (OWN["mean"], OWN["std"], OWN_TEXT),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "mean 0 0 0 std 1 1 1"),
        (0.5, 0.5, "half"),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "imagenet"),
    ],
)
def test_timms_statistics_are_taken(tmp_path: Path, mean: object, std: object, expected, old: bool):
    timm_folder(tmp_path, "vit_base_patch16_224")
    config = json.loads((tmp_path / "config.json").read_text())
    stated = dict(mean=mean, std=std)
    config = config | stated if old else config | dict(pretrained_cfg=stated)
    if old:  # before version 0.8 all stood in one dict
        del config["pretrained_cfg"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = read_encoder(tmp_path)
    assert encoder.stats == expected and "stats" not in encoder.assumed


# ---------------------------------------------------------------------------- Hugging Face
@pytest.mark.parametrize(
    ("preprocessor", "expected"),
    [
        (dict(image_mean=OWN["mean"], image_std=OWN["std"]), OWN_TEXT),
        (dict(image_mean=0.5, image_std=0.5), "half"),
        (
            dict(image_mean=[0.5] * 3, image_std=[0.5] * 3, do_normalize=False),
            "mean 0 0 0 std 1 1 1",
        ),
        (dict(do_normalize=False), "mean 0 0 0 std 1 1 1"),
        (
            dict(image_mean=[127.5] * 3, image_std=[127.5] * 3, do_rescale=False),
            "half",
        ),
        (dict(image_mean=[1, 1, 1], image_std=[1, 1, 1], rescale_factor=1 / 127.5), "half"),
    ],
)
def test_the_statistics_of_a_preprocessor_are_taken(
    tmp_path: Path, preprocessor: dict, expected: str
):
    encoder = read_encoder(write(tmp_path, "hf_vit", CONFIG, preprocessor))
    assert encoder.stats == expected and "stats" not in encoder.assumed


@pytest.mark.parametrize(
    "preprocessor",
    [
        dict(image_mean=[0.5, 0.5], image_std=[0.5, 0.5]),
        dict(image_mean=["a", "b", "c"], image_std=[1, 1, 1]),
        dict(image_mean=[0, 0, 0], image_std=[0, 1, 1]),
        dict(image_mean=[float("nan")] * 3, image_std=[1, 1, 1]),
        dict(image_mean=0.5, image_std=0.5, rescale_factor="half"),
        dict(image_mean=0.5, image_std=0.5, rescale_factor=1 / 127.5, rescale_offset=True),
    ],
)
def test_statistics_that_cannot_be_meant_are_refused(tmp_path: Path, preprocessor: dict):
    with pytest.raises(ValueError, match=r"preprocessor_config\.json'"):
        read_encoder(write(tmp_path, "hf_vit", CONFIG, preprocessor))


def test_msn_is_known_by_its_config(tmp_path: Path):
    config = CONFIG | dict(model_type="vit_msn", layer_norm_eps=1e-6)
    encoder = read_encoder(write(tmp_path, "hf_vit", config))
    assert (encoder.system, encoder.stats) == ("MSN", "imagenet")
    assert encoder.settings["norm_eps"] == 1e-6 and "stats" in encoder.assumed


@pytest.mark.parametrize("name", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"])
def test_the_tanh_approximation_of_gelu_is_known_by_all_its_names(tmp_path: Path, name: str):
    encoder = read_encoder(write(tmp_path, "hf_vit", CONFIG | dict(hidden_act=name)))
    assert encoder.settings["act"] == "GELUTanh"


# ------------------------------------------------------------------------------- open_clip
def open_clip_folder(folder: Path, quick_gelu: bool, file: str, **vision) -> nn.Module:
    model = zoo.clip_model(quick_gelu)
    tower = dict(image_size=32, layers=zoo.LAYERS, width=D, head_width=D // zoo.HEADS, patch_size=8)
    config = dict(embed_dim=20, quick_gelu=quick_gelu, vision_cfg=tower | vision, text_cfg={})
    model.visual.image_mean, model.visual.image_std = OWN["mean"], OWN["std"]
    save_config_for_hf(model, folder / HF_CONFIG_NAME, config)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if file.endswith(".bin"):
        torch.save(state, folder / file)
    else:
        save_file(state, folder / file)
    return model


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_open_clips_config_decides(tmp_path: Path, quick_gelu: bool, file: str):
    model = open_clip_folder(tmp_path, quick_gelu, file)
    # the same weights for Hugging Face's CLIP, as in most repositories
    save_file(
        {"vision_model.embeddings.class_embedding": torch.ones(3)}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(json.dumps(dict(model_type="clip")))
    imgs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = zoo.clip_tokens(model)(imgs)
    for path in (tmp_path, tmp_path / file):
        encoder = read_encoder(path)
        assert encoder.stats == OWN_TEXT and not encoder.assumed
        assert_same_tokens(encoder, expected, imgs)


def test_open_clips_config_of_another_tower_is_refused(tmp_path: Path):
    open_clip_folder(tmp_path, False, "open_clip_model.safetensors", head_width=24, patch_size=16)
    with pytest.raises(
        ValueError, match=r"open_clip_config\.json says patch_size=16, the tensors 8"
    ):
        read_encoder(tmp_path)
    open_clip_folder(tmp_path, False, "open_clip_model.safetensors", layers=[3, 4, 6, 3])
    with pytest.raises(ValueError, match="a ResNet: not a plain ViT"):
        read_encoder(tmp_path)


def test_timms_file_comes_before_open_clips_in_timms_own_folders(tmp_path: Path):
    timm_folder(tmp_path, "vit_base_patch16_clip_quickgelu_224")
    (tmp_path / "open_clip_config.json").write_text("{}")
    save_file({"x": torch.ones(1)}, tmp_path / "open_clip_model.safetensors")
    assert read_encoder(tmp_path).layout == "timm"


def test_a_table_of_an_oblong_grid_is_not_taken_for_a_square_one(tmp_path: Path):
    timm_folder(tmp_path, "vit_base_patch16_224", img_size=(16, 64))  # 2 x 8 patches, as 4 x 4
    with pytest.raises(ValueError, match=r"config\.json says images of 16x64 pixels, so .*square"):
        read_encoder(tmp_path)


@pytest.mark.parametrize("option", ["img_size=(16, 64)", "img_size=[16, 64]"])
@pytest.mark.parametrize("kind", ["milan_mm.PlainViT", "VisionTransformer"])
def test_images_that_are_not_square_are_told_by_a_training(kind: str, option: str):
    text = f"model = dict(backbone=dict(type='{kind}', arch='base', {option}))"
    assert training_facts(dict(meta=dict(cfg=text))).oblong == (16, 64)


# ------------------------------------------------------------------------------ mmpretrain
def mmpretrain_checkpoint(**backbone) -> tuple[dict, nn.Module]:
    arch = mm_sizes()["arch"] | dict(num_heads=12)
    options = mm_sizes() | dict(arch=arch) | backbone
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = randomise(MMViT(**options))
    preprocessor = dict(mean=[25.5, 51, 76.5], std=[63.75, 63.75, 76.5], to_rgb=True)
    cfg = dict(model=dict(backbone=dict(type="VisionTransformer", **options)))
    cfg["data_preprocessor"] = preprocessor
    state = prefixed(model.state_dict(), "backbone.")
    return dict(state_dict=state, meta=dict(cfg=Config(cfg).pretty_text)), model


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, dict(act="GELU", norm_eps=1e-6)),
        (
            dict(layer_cfgs=dict(act_cfg=dict(type="QuickGELU")), pre_norm=True),
            dict(act="QuickGELU", pre_norm=True),
        ),
        (
            dict(layer_cfgs=dict(act_cfg=dict(type="GELU", approximate="tanh"))),
            dict(act="GELUTanh"),
        ),
        (dict(interpolate_mode="bilinear"), dict(pos_resize="bilinear")),
        (dict(norm_cfg=dict(type="LN", eps=1e-3)), dict(norm_eps=1e-3)),
        (dict(layer_cfgs=dict(norm_cfg=dict(type="LN", eps=1e-6))), dict(norm_eps=1e-6)),
        (dict(norm_cfg=dict(type="LN")), dict(norm_eps=1e-5)),
    ],
)
def test_mmpretrains_own_config_decides(options: dict, expected: dict):
    content, model = mmpretrain_checkpoint(**options)
    encoder = recognise(content, "epoch_1.pth")
    assert encoder.settings["arch"]["num_heads"] == 12 and encoder.stats == OWN_TEXT
    assert {name: encoder.settings[name] for name in expected} == expected
    assert set(encoder.assumed) == {"pooling"}
    for side in (32, 48):
        imgs = torch.randn(2, 3, side, side)
        with torch.no_grad():
            assert_same_tokens(encoder, mm_tokens(model)(imgs), imgs)


@pytest.mark.parametrize(
    ("backbone", "heads"),
    [
        ("type='MoCoV3ViT', arch='mocov3-small'", 12),
        ("type='VisionTransformer', arch='deit-small'", 6),
        ("type='mmpretrain.VisionTransformer', arch='small'", 8),
        ("type='DeiT3', arch='small'", 6),
        ("type='BEiTViT', arch='deit-t'", 3),
        ("type='MAEViT'", 12),
    ],
)
def test_mmpretrains_names_of_sizes_are_known(backbone: str, heads: int):
    text = f"model = dict(backbone=dict({backbone}))"
    assert training_facts(dict(meta=dict(cfg=text))).num_heads == heads


def test_an_unknown_backbone_is_refused_until_its_system_is_named():
    content, _ = mmpretrain_checkpoint()
    content["meta"]["cfg"] = content["meta"]["cfg"].replace("VisionTransformer", "MyViT")
    with pytest.raises(ValueError, match=r"says model\.backbone\.type='MyViT', .*--system"):
        recognise(content, "epoch_1.pth")
    system = "mmpretrain or milan_mm"
    encoder = recognise(content, "epoch_1.pth", system=system, num_heads=12)
    assert {"act", "norm_eps"} <= encoder.assumed.keys() and encoder.stats == OWN_TEXT


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("layer_cfgs=dict(act_cfg=dict(type='SiLU'))", "act_cfg='SiLU', supported are GELU"),
        ("norm_cfg=dict(type='BN')", "norm_cfg={'type': 'BN'}, supported is LN"),
        (
            "layer_cfgs=dict(norm_cfg=dict(type='LN', eps=1e-3))",
            "norm_cfg of 0.001 and 1e-06: parts",
        ),
        (
            "layer_cfgs=[dict(), dict(act_cfg=dict(type='QuickGELU'))]",
            "act_cfg of GELU and QuickGELU",
        ),
        ("interpolate_mode='nearest'", "interpolate_mode='nearest', supported are bicubic"),
    ],
)
def test_designs_of_mmpretrain_that_are_not_here_are_refused(option: str, message: str):
    text = f"model = dict(backbone=dict(type='VisionTransformer', {option}))"
    with pytest.raises(ValueError, match=message):
        training_facts(dict(meta=dict(cfg=text)))


# ----------------------------------------------------------------- what is written from it
def test_an_exported_file_carries_statistics_of_any_numbers(tmp_path: Path):
    encoder = read_encoder(_saved(tmp_path, mmpretrain_checkpoint()[0]))
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    again = read_encoder(tmp_path / "encoder.safetensors")
    assert again.stats == OWN_TEXT and again.settings == encoder.settings


@pytest.mark.parametrize(
    ("sample", "system", "expected"),
    [
        # statistics, activation, rule of positions: all were only assumed when it was exported
        ("open_clip", "CLIP", ("clip", "QuickGELU", "bicubic-antialias")),
        ("dino_backbone", "AugReg", ("half", "GELU", "bilinear-corners")),
    ],
)
def test_a_system_that_is_named_for_an_exported_file_decides_what_was_assumed(
    tmp_path: Path, sample: str, system: str, expected: tuple
):
    file = tmp_path / "encoder.safetensors"
    source = _saved(tmp_path, zoo.SYSTEMS[sample](tmp_path).content)
    export_encoder(read_encoder(source, num_heads=zoo.HEADS), file)
    encoder = read_encoder(file, system=system)
    found = (encoder.stats, encoder.settings["act"], encoder.settings["pos_resize"])
    assert (encoder.system, found) == (system, expected)
    again = read_encoder(source, system=system, num_heads=zoo.HEADS)
    assert (again.stats, again.pooling, again.settings) == (
        encoder.stats,
        encoder.pooling,
        encoder.settings,
    )
    export_encoder(encoder, tmp_path / "again.safetensors")
    assert read_encoder(tmp_path / "again.safetensors").settings == encoder.settings


def test_a_system_that_is_named_for_an_exported_file_changes_nothing_known(tmp_path: Path):
    file = tmp_path / "encoder.safetensors"
    open_clip_folder(tmp_path, True, "open_clip_model.safetensors")
    export_encoder(tmp_path, file)
    for system in ("SplitMask", "CLIP"):
        encoder = read_encoder(file, system=system)
        assert (encoder.stats, encoder.settings["act"]) == (OWN_TEXT, "QuickGELU")


@pytest.mark.parametrize("system", ["CLIP", None])
def test_gelu_in_a_file_of_clips_system_is_not_damage(tmp_path: Path, system: str | None):
    open_clip_folder(tmp_path, False, "open_clip_model.safetensors")
    export_encoder(read_encoder(tmp_path, system="CLIP"), tmp_path / "encoder.safetensors")
    encoder = read_encoder(tmp_path / "encoder.safetensors", system=system)
    assert encoder.settings["act"] == "GELU"


def _saved(folder: Path, content: dict) -> Path:
    torch.save(content, folder / "epoch_1.pth")
    return folder / "epoch_1.pth"
