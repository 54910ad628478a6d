"""Parameter groups: which rule holds for which parameter, by hand."""

import pytest
from mmengine.config import Config
from torch import nn

from milan_mm.configs import find_config
from milan_mm.optim import LayerDecayOptimWrapperConstructor, parameter_rules
from tests.helpers import build_without_memory, tiny_vit


class TinyModel(nn.Module):
    """A backbone of 3 blocks with a neck and a head, as detectors and segmentors have them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = tiny_vit()
        self.neck = nn.BatchNorm2d(4)
        self.head = nn.Linear(48, 2)


def rules(model: nn.Module | None = None, **settings) -> dict[str, tuple[float, bool]]:
    model = model or TinyModel()
    return {name: (scale, decays) for name, scale, decays in parameter_rules(model, **settings)}


def construct(model: nn.Module, paramwise_cfg: dict | None, lr: float = 1e-3, wd: float = 0.1):
    constructor = LayerDecayOptimWrapperConstructor(
        dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=lr, weight_decay=wd)),
        paramwise_cfg,
    )
    return constructor(model).optimizer


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("backbone.cls_token", 0.5**4),
        ("backbone.pos_embed", 0.5**4),
        ("backbone.patch_embed.projection.weight", 0.5**4),
        ("backbone.layers.0.attn.qkv.weight", 0.5**3),
        ("backbone.layers.1.ffn.layers.1.bias", 0.5**2),
        ("backbone.layers.2.ln2.weight", 0.5),
        ("backbone.ln1.weight", 1.0),
        ("neck.weight", 1.0),
        ("head.weight", 1.0),
    ],
)
def test_learning_rate_halves_with_every_block_below_the_head(name, factor):
    assert rules(layer_decay_rate=0.5)[name][0] == pytest.approx(factor)


def test_a_bare_backbone_has_depths_too():
    assert rules(tiny_vit(), layer_decay_rate=0.5)["layers.0.ln1.bias"][0] == 0.5**3


def test_without_layer_decay_all_learn_alike():
    assert {scale for scale, _ in rules().values()} == {1.0}


def test_no_decay_1d_exempts_vectors_and_nothing_else():
    model = TinyModel()
    parameters = dict(model.named_parameters())
    for name, (_, decays) in rules(model, no_decay_1d=True).items():
        assert decays == (parameters[name].ndim > 1), name
    assert rules(no_decay_1d=True)["backbone.cls_token"][1]  # 3-D, hence decayed


def test_no_decay_types_compares_classes_not_names():
    decays = {name: value for name, (_, value) in rules(no_decay_types=["LayerNorm"]).items()}
    exempt = {name for name, value in decays.items() if not value}
    norms = {f"layers.{i}.ln{j}" for i in range(3) for j in (1, 2)} | {"ln1"}
    assert exempt == {f"backbone.{n}.{kind}" for n in norms for kind in ("weight", "bias")}
    assert decays["neck.weight"]  # a BatchNorm2d


def test_no_decay_names_compares_the_last_part():
    exempt = {n for n, (_, d) in rules(no_decay_names=["pos_embed", "bias"]).items() if not d}
    assert exempt == {
        n for n, _ in TinyModel().named_parameters() if n.endswith((".pos_embed", ".bias"))
    }


def test_frozen_parameters_follow_no_rule():
    model = TinyModel()
    model.backbone.pos_embed.requires_grad_(False)
    assert "backbone.pos_embed" not in rules(model)


@pytest.mark.parametrize("paramwise_cfg", [None, {}, dict(no_decay_1d=True)])
def test_frozen_parameters_are_in_no_group(paramwise_cfg):
    model = TinyModel()
    model.backbone.requires_grad_(False)
    optimizer = construct(model, paramwise_cfg)
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in (*model.neck.parameters(), *model.head.parameters())}


def test_equal_groups_are_merged():
    optimizer = construct(TinyModel(), dict(layer_decay_rate=0.5, no_decay_1d=True))
    settings = [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    # five depths, with and without decay; the last holds ln1, neck and head
    assert len(settings) == len(set(settings)) == 10
    assert len(construct(TinyModel(), dict(no_decay_1d=True)).param_groups) == 2


def test_every_trainable_parameter_is_in_exactly_one_group():
    model = TinyModel()
    optimizer = construct(model, dict(layer_decay_rate=0.5, no_decay_types=["LayerNorm"]))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_groups_carry_scaled_rates_and_decays():
    model = TinyModel()
    optimizer = construct(model, dict(layer_decay_rate=0.5, no_decay_1d=True), lr=1e-3, wd=0.1)
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[id(parameter)] = (group["lr"], group["weight_decay"])
    assert found[id(model.backbone.patch_embed.projection.weight)] == (1e-3 / 16, 0.1)
    assert found[id(model.backbone.layers[2].ln1.bias)] == (5e-4, 0.0)
    assert found[id(model.head.weight)] == (1e-3, 0.1)


def test_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"unknown keys \['norm_decay_mult'\]: known are \["):
        construct(TinyModel(), dict(norm_decay_mult=0.0))


def test_layer_decay_without_a_backbone_that_tells_depths_is_refused():
    with pytest.raises(
        ValueError, match=r"layer_decay_rate=0\.5 needs a backbone with get_layer_dep"
    ):
        construct(nn.Sequential(nn.Linear(2, 2)), dict(layer_decay_rate=0.5))


DET = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
SEG = "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"
PRETRAIN = "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"


@pytest.fixture(scope="module")
def base_rules() -> dict[str, dict[str, tuple[float, bool]]]:
    """The rules of the three ViT-B recipes at full size, on models without memory."""
    found = {}
    for name in (DET, SEG, PRETRAIN):
        config = Config.fromfile(find_config(name))
        model = build_without_memory(config)
        found[name] = rules(model, **config.optim_wrapper.paramwise_cfg)
    return found


@pytest.mark.parametrize(
    ("recipe", "name", "factor", "decays"),
    [
        (DET, "backbone.patch_embed.projection.weight", 0.7**13, True),
        (DET, "backbone.patch_embed.projection.bias", 0.7**13, True),
        (DET, "backbone.pos_embed", 0.7**13, False),
        (DET, "backbone.layers.0.ln1.weight", 0.7**12, False),
        (DET, "backbone.layers.11.attn.qkv.bias", 0.7, True),
        (DET, "neck.levels.0.0.1.weight", 1.0, True),
        (DET, "roi_head.bbox_head.fc_cls.weight", 1.0, True),
        (SEG, "backbone.cls_token", 0.65**13, False),
        (SEG, "backbone.pos_embed", 0.65**13, False),
        (SEG, "backbone.layers.5.ffn.layers.1.weight", 0.65**7, True),
        (SEG, "backbone.layers.5.ffn.layers.1.bias", 0.65**7, False),
        (SEG, "decode_head.conv_seg.weight", 1.0, True),
        (PRETRAIN, "backbone.cls_token", 1.0, True),
        (PRETRAIN, "decoder.mask_token", 1.0, True),
        (PRETRAIN, "backbone.layers.3.attn.qkv.weight", 1.0, True),
        (PRETRAIN, "backbone.layers.3.attn.qkv.bias", 1.0, False),
        (PRETRAIN, "decoder.decoder_norm.weight", 1.0, False),
    ],
)
def test_published_rules_of_the_vit_base_recipes(base_rules, recipe, name, factor, decays):
    found, found_decays = base_rules[recipe][name]
    assert found == pytest.approx(factor)
    assert found_decays == decays


def test_fixed_position_tables_are_not_optimised_in_pretraining(base_rules):
    assert not [name for name in base_rules[PRETRAIN] if "pos_embed" in name]
