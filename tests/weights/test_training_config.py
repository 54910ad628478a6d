"""A training checkpoint says what no tensor does: by its record, or by the config in old ones."""

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path

import mmpretrain.models
import pytest
import torch
from mmengine.config import Config

from milan_mm.models.vit_options import WEIGHT_OPTIONS
from milan_mm.registry import MODELS
from milan_mm.run.encoder_weights import set_encoder_weights
from milan_mm.run.records.record import record_of
from milan_mm.weights.inspecting import inspection
from milan_mm.weights.recognising import recognise
from milan_mm.weights.record import backbone_options
from milan_mm.weights.stated.facts import HubFacts
from milan_mm.weights.stated.mmpretrain import mmpretrain_facts
from milan_mm.weights.stated.training import training_facts
from milan_mm.weights.statistics import STATS
from tests.helpers import TINY_ARCH, save_state, tiny_vit
from tests.recipes.test_configs import load
from tests.weights.zoo import SYSTEMS

RGB = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323], to_rgb=True)


def checkpoint(preprocessor: dict | None = None, top: bool = False, **backbone) -> dict:
    """As mmengine saves a finetuned CLIP."""
    options = dict(arch=TINY_ARCH, img_size=32, patch_size=8) | backbone
    model = dict(backbone=dict(type="milan_mm.PlainViT", **options))
    cfg = dict(model=model)
    (cfg if top else model)["data_preprocessor"] = preprocessor or RGB
    state = {f"backbone.{n}": t for n, t in tiny_vit(**backbone).state_dict().items()}
    return dict(state_dict=state, meta=dict(cfg=Config(cfg).pretty_text))


RECIPES = (
    "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes",
    "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
    "pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes",
)


def run_of(recipe: str, weights: str | None) -> dict:
    """The checkpoint of a run of ours that started from a file, as far as it matters here."""
    cfg = load(recipe)
    cfg.model.backbone.arch = TINY_ARCH
    cfg.model.backbone.global_layers = cfg.model.backbone.out_indices = (2,)
    if weights:
        set_encoder_weights(cfg, weights)
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    state = {f"backbone.{name}": tensor for name, tensor in vit.state_dict().items()}
    return dict(state_dict=state, meta=dict(milan_mm=record_of(cfg)))


@pytest.mark.parametrize(
    ("recipe", "system"),
    [
        *product(RECIPES, ["openai_clip", "hf_vit", "augreg_torch", "dinov3", "pe_timm"]),
        # from which no pretraining continues
        *product(RECIPES[:3], ["beit", "eva02", "aimv2", "siglip", "mmseg"]),
    ],
)
def test_a_run_of_ours_says_itself_what_its_encoder_is(tmp_path: Path, recipe: str, system: str):
    weights = str(save_state(SYSTEMS[system](tmp_path).content, tmp_path))
    content = run_of(recipe, weights)
    kept = content["meta"]["milan_mm"]
    options = kept["model"]["backbone"]
    encoder = recognise(content, "epoch_1.pth")
    assert encoder.system == kept["encoder"]["system"]
    assert byte_stats(encoder.stats) == [kept["model"]["statistics"][n] for n in ("mean", "std")]
    is_dense = recipe.startswith(("det", "seg"))
    own = kept["encoder"]["pooling"]
    can_pool_cls = is_dense and options["with_cls_token"] and own == "cls"
    assert encoder.pooling == ("cls" if can_pool_cls else "mean")
    loses_pooling = own == "pool" or not options["with_cls_token"]
    assert not encoder.assumed.keys() - ({"pooling"} if loses_pooling else set())
    model = MODELS.build(dict(encoder.model_settings(), type="milan_mm.PlainViT"))
    built = backbone_options(dict(asdict(model.options), type="milan_mm.PlainViT"))
    assert built and {n: built[n] for n in WEIGHT_OPTIONS if n != "layer_scale"} == {
        n: options[n] for n in WEIGHT_OPTIONS if n != "layer_scale"
    }
    side = 32 if system == "beit" else options["img_size"][0]  # BEiT's bias keeps its own grid
    assert built["arch"] == options["arch"] and built["img_size"] == [side, side]


@pytest.mark.parametrize(
    ("recipe", "system"),
    [
        *((recipe, "milan_mm") for recipe in RECIPES[:3]),
        (RECIPES[3], "MILAN"),
        ("pretrain/mae_vit-mini-p8_1xb64-amp-coslr-12e_shapes", "MAE"),
        (
            "pretrain/ablation/row-8-clip-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k",
            "MILAN",
        ),
        (
            "pretrain/ablation/row-3-pixel-prompting-uniform_vit-base-p16_8xb512-amp-coslr-400e_in1k",
            "milan_mm",
        ),
    ],
)
def test_nothing_is_assumed_of_a_run_of_ours_that_began_from_scratch(recipe: str, system: str):
    encoder = recognise(run_of(recipe, None), "epoch_1.pth")
    assert (encoder.system, encoder.pooling, encoder.assumed) == (system, "mean", {})
    assert f"  system      {system}\n" in inspection(encoder)


def byte_stats(name: str) -> list[list[float]]:
    return [pytest.approx([255 * v for v in values], abs=1e-3) for values in STATS[name]]


def test_a_record_that_contradicts_the_tensors_is_refused():
    content = run_of(RECIPES[0], None)
    content["meta"]["milan_mm"]["model"]["backbone"]["patch_size"] = 16
    with pytest.raises(ValueError, match="patch_size=16, the tensors 8"):
        recognise(content, "epoch_1.pth")


def test_the_record_wins_over_the_config_of_the_same_file():
    content = run_of(RECIPES[0], None)
    content["meta"]["cfg"] = "model = dict(backbone=dict(type='milan_mm.PlainViT', act='SiLU'))"
    assert recognise(content, "epoch_1.pth").settings["act"] == "GELU"


def test_the_config_counts_where_the_record_knows_no_plain_vit():
    content = checkpoint(norm_eps=1e-3)
    record = run_of(RECIPES[0], None)["meta"]["milan_mm"]
    record["model"]["backbone"] = None
    content["meta"]["milan_mm"] = record
    text = content["meta"]["cfg"].replace("milan_mm.PlainViT", "mmpretrain.VisionTransformer")
    content["meta"]["cfg"] = text.replace("norm_eps=0.001", "norm_cfg=dict(type='LN', eps=1e-3)")
    encoder = recognise(content, "epoch_1.pth")
    assert encoder.stats == "clip" and encoder.settings["norm_eps"] == 1e-3
    assert encoder.settings["arch"] == TINY_ARCH and "num_heads" not in encoder.assumed


CLIP = dict(norm_eps=1e-5, act="QuickGELU", patch_bias=False, pre_norm=True)


@pytest.mark.parametrize("top", [False, True])
def test_activation_epsilon_heads_and_statistics_are_told(top: bool):
    encoder = recognise(checkpoint(top=top, **CLIP), "epoch_1.pth")
    assert {name: encoder.settings[name] for name in CLIP} == CLIP
    assert encoder.settings["arch"] == TINY_ARCH and encoder.stats == "clip"
    assert set(encoder.assumed) == {"pooling"}


def test_a_usual_architecture_is_known_by_its_name():
    content = checkpoint()
    content["meta"]["cfg"] = "model = dict(backbone=dict(type='milan_mm.PlainViT', arch='large'))"
    assert training_facts(content).num_heads == 16


def test_rotary_positions_are_told():
    rotary = dict(rope_base=50.0, num_registers=2, with_pos_embed=False)
    assert recognise(checkpoint(**rotary), "epoch_1.pth").settings["rope_base"] == 50
    rotary = dict(rope_base=50.0, rope_kind="eva02", rope_grid=4)  # besides a table
    settings = recognise(checkpoint(**rotary), "epoch_1.pth").settings
    assert settings | rotary | dict(rope_grid=(4, 4)) == settings


def test_rms_norms_are_told_and_have_no_bias():
    content = checkpoint(norm="RMS", qk_norm=True)
    assert recognise(content, "epoch_1.pth").settings["norm"] == "RMS"
    content["state_dict"]["backbone.layers.1.ln2.bias"] = torch.zeros(48)
    with pytest.raises(ValueError, match=r"holds 'backbone\.layers\.1\.ln2\.bias'.* RMSNorms"):
        recognise(content, "epoch_1.pth")
    content = checkpoint()
    del content["state_dict"]["backbone.layers.1.ln2.bias"]
    with pytest.raises(ValueError, match="missing"):
        recognise(content, "epoch_1.pth")


def test_statistics_of_bgr_images_are_turned():
    bgr = dict(mean=RGB["mean"][::-1], std=RGB["std"][::-1])
    assert recognise(checkpoint(bgr), "epoch_1.pth").stats == "clip"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model = (",
        "model = [1]",
        "model = dict(backbone='milan_mm.PlainViT')",
        "model = " + "-" * 100_000 + "1",
        "model = " + "[" * 5_000,
        None,
        7,
    ],
)
def test_other_configs_tell_nothing(text: object):
    assert training_facts(dict(meta=dict(cfg=text))) == HubFacts()


def test_a_config_is_never_executed(tmp_path: Path):
    marker = tmp_path / "marker"
    call = f"__import__('os').mkdir({json.dumps(str(marker))})"
    text = f"x = {call}\nmodel = dict(backbone=dict(type='milan_mm.PlainViT', act={call}))"
    assert training_facts(dict(meta=dict(cfg=text))).act is None
    assert not marker.exists()


def test_a_config_that_contradicts_what_is_given_is_refused():
    with pytest.raises(ValueError, match="says 4 and --num-heads says 6 attention heads"):
        recognise(checkpoint(), "epoch_1.pth", num_heads=6)


def test_a_checkpoint_without_a_config_is_read_with_assumptions():
    content = checkpoint(**CLIP)
    del content["meta"]
    encoder = recognise(content, "epoch_1.pth", num_heads=4)
    assert encoder.settings["act"] == "GELU"
    assert {"act", "norm_eps", "stats"} <= encoder.assumed.keys()
    assert torch.is_tensor(encoder.state_dict["pre_norm.weight"])


@pytest.mark.parametrize(
    "kind", ["VisionTransformer", "DistilledVisionTransformer", "DeiT3", "BEiTViT"]
)
def test_heads_of_named_sizes_are_those_of_mmpretrain(kind: str):
    for name, sizes in getattr(mmpretrain.models, kind).arch_zoo.items():
        facts = mmpretrain_facts(dict(type=f"mmpretrain.{kind}", arch=name))
        assert facts.num_heads == sizes["num_heads"], name
