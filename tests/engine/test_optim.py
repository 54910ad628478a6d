"""Parameter groups: which rule holds for which parameter, by hand."""

import pytest
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import SGD

from milan_mm.configs import list_configs, load
from milan_mm.engine.optim import (
    LayerDecayOptimWrapperConstructor,
    group_summary,
    parameter_rules,
    parameter_table,
)
from milan_mm.run.building import build_without_memory
from tests.helpers import tiny_vit


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


def test_rms_norms_follow_the_rule_of_layer_norms():
    vit = tiny_vit(norm="RMS", qk_norm=True)
    for name in ("LayerNorm", "RMSNorm"):
        exempt = {n for n, (_, d) in rules(vit, no_decay_types=[name]).items() if not d}
        parts = ("ln1", "ln2", "q_norm", "k_norm")
        assert exempt == {n for n in dict(vit.named_parameters()) if {*n.split(".")} & {*parts}}


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


def test_further_options_reach_one_dimensional_parameters_and_no_others():
    model = TinyModel()
    optimizer = construct(model, dict(options_1d=dict(betas=(0.5, 0.5))))
    betas = {id(p): group["betas"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = (0.5, 0.5) if parameter.ndim == 1 else (0.9, 0.999)
        assert betas[id(parameter)] == expected, name
    assert len(optimizer.param_groups) == 2


def test_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"unknown keys \['norm_decay_mult'\]: known are \["):
        construct(TinyModel(), dict(norm_decay_mult=0.0))


def test_layer_decay_without_a_backbone_that_has_depths_is_refused():
    with pytest.raises(
        ValueError, match=r"layer_decay_rate=0\.5 needs a backbone with get_layer_dep"
    ):
        construct(nn.Sequential(nn.Linear(2, 2)), dict(layer_decay_rate=0.5))


DET = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
DET_L = "det/mask-rcnn_vit-large-p16_8xb8-amp-lsj-100e_coco"
SEG = "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"
SEG_L = "seg/upernet_vit-large-p16_8xb2-amp-160k_ade20k-512x512"
PRETRAIN = "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"


@pytest.fixture(scope="module")
def base_rules() -> dict[str, dict[str, tuple[float, bool]]]:
    """The rules of the dense recipes at full size, on models without memory."""
    found = {}
    for name in (DET, DET_L, SEG, SEG_L):
        config = load(name)
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
        (DET, "backbone.layers.0.attn.rel_pos_h", 0.7**12, True),
        (DET, "backbone.layers.11.attn.rel_pos_w", 0.7, True),
        (DET, "backbone.layers.11.attn.qkv.bias", 0.7, True),
        (DET, "neck.levels.0.0.1.weight", 1.0, True),
        (DET, "neck.levels.3.1.3.bias", 1.0, True),
        (DET, "rpn_head.rpn_conv.1.conv.bias", 1.0, True),
        (DET, "roi_head.bbox_head.fc_cls.weight", 1.0, True),
        (DET, "roi_head.mask_head.convs.3.ln.weight", 1.0, True),
        (DET_L, "backbone.pos_embed", 0.8**25, False),
        (DET_L, "backbone.patch_embed.projection.weight", 0.8**25, True),
        (DET_L, "backbone.layers.0.ffn.layers.1.bias", 0.8**24, True),
        (DET_L, "backbone.layers.5.attn.rel_pos_h", 0.8**19, True),
        (DET_L, "backbone.layers.23.ln2.bias", 0.8, False),
        (DET_L, "neck.levels.1.0.bias", 1.0, True),
        (SEG, "backbone.cls_token", 0.65**13, False),
        (SEG, "backbone.pos_embed", 0.65**13, False),
        (SEG, "backbone.layers.5.ffn.layers.1.weight", 0.65**7, True),
        (SEG, "backbone.layers.5.ffn.layers.1.bias", 0.65**7, False),
        (SEG, "decode_head.conv_seg.weight", 1.0, True),
        (SEG_L, "backbone.cls_token", 0.95**25, False),
        (SEG_L, "backbone.pos_embed", 0.95**25, False),
        (SEG_L, "backbone.patch_embed.projection.weight", 0.95**25, True),
        (SEG_L, "backbone.layers.11.attn.qkv.weight", 0.95**13, True),
        (SEG_L, "backbone.layers.23.ln1.weight", 0.95, False),
        (SEG_L, "auxiliary_head.conv_seg.bias", 1.0, False),
    ],
)
def test_published_rules_of_the_dense_recipes(base_rules, recipe, name, factor, decays):
    found, found_decays = base_rules[recipe][name]
    assert found == pytest.approx(factor)
    assert found_decays == decays


def test_detection_exempts_the_norms_of_the_blocks_and_the_positions_and_nothing_else(base_rules):
    for recipe, blocks in ((DET, 12), (DET_L, 24)):
        norms = {f"backbone.layers.{i}.ln{j}" for i in range(blocks) for j in (1, 2)}
        expected = {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
        exempt = {name for name, (_, decays) in base_rules[recipe].items() if not decays}
        assert exempt == expected | {"backbone.pos_embed"}


# Pretraining: one-dimensional tensors are exempt, tokens decay, position tables are frozen
PUBLISHED = """
    backbone.cls_token                          decay
    backbone.patch_embed.projection.weight      decay
    backbone.patch_embed.projection.bias        -
    backbone.layers.0.ln1.weight                -
    backbone.layers.0.ln1.bias                  -
    backbone.layers.0.attn.qkv.weight           decay
    backbone.layers.0.attn.qkv.bias             -
    backbone.layers.0.attn.proj.weight          decay
    backbone.layers.0.attn.proj.bias            -
    backbone.layers.0.ln2.weight                -
    backbone.layers.0.ln2.bias                  -
    backbone.layers.0.ffn.layers.0.0.weight     decay
    backbone.layers.0.ffn.layers.0.0.bias       -
    backbone.layers.0.ffn.layers.1.weight       decay
    backbone.layers.0.ffn.layers.1.bias         -
    backbone.ln1.weight                         -
    backbone.ln1.bias                           -
    decoder.mask_token                          decay
    decoder.decoder_embed.weight                decay
    decoder.decoder_embed.bias                  -
    decoder.decoder_blocks.0.ln1.weight         -
    decoder.decoder_blocks.0.ln1.bias           -
    decoder.decoder_blocks.0.attn.q.weight      decay
    decoder.decoder_blocks.0.attn.q.bias        -
    decoder.decoder_blocks.0.attn.kv.weight     decay
    decoder.decoder_blocks.0.attn.kv.bias       -
    decoder.decoder_blocks.0.attn.proj.weight   decay
    decoder.decoder_blocks.0.attn.proj.bias     -
    decoder.decoder_blocks.0.ln2.weight         -
    decoder.decoder_blocks.0.ln2.bias           -
    decoder.decoder_blocks.0.ffn.layers.0.0.weight  decay
    decoder.decoder_blocks.0.ffn.layers.0.0.bias    -
    decoder.decoder_blocks.0.ffn.layers.1.weight    decay
    decoder.decoder_blocks.0.ffn.layers.1.bias      -
    decoder.decoder_norm.weight                 -
    decoder.decoder_norm.bias                   -
    decoder.decoder_pred.weight                 decay
    decoder.decoder_pred.bias                   -
"""


def pretraining(recipe: str = PRETRAIN, blocks: int | None = None) -> tuple[nn.Module, dict]:
    """The model of a recipe without memory, perhaps with fewer blocks, and its rules."""
    config = load(recipe)
    if blocks:
        config.model.backbone.arch = dict(embed_dims=768, num_layers=blocks, num_heads=12)
        config.model.decoder.num_layers = blocks
    return build_without_memory(config), config.optim_wrapper.paramwise_cfg.to_dict()


def test_published_rules_of_pretraining_for_every_parameter_by_hand():
    model, settings = pretraining(blocks=1)
    expected = dict(line.split() for line in PUBLISHED.strip().splitlines())
    found = rules(model, **settings)
    assert found == {name: (1.0, word == "decay") for name, word in expected.items()}


def test_pretraining_decays_what_timm_decays():
    model, settings = pretraining()
    reference = {
        id(parameter): group["weight_decay"] > 0
        for group in param_groups_weight_decay(model, weight_decay=0.05)
        for parameter in group["params"]
    }
    parameters = dict(model.named_parameters())
    found = {id(parameters[n]): decays for n, (_, decays) in rules(model, **settings).items()}
    assert found == reference


def test_pretraining_exempts_the_norms_and_the_biases_and_nothing_else():
    model, settings = pretraining()
    expected = set()
    for prefix, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            expected |= {f"{prefix}.weight", f"{prefix}.bias"}
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            expected.add(f"{prefix}.bias")
    assert {n for n, (_, decays) in rules(model, **settings).items() if not decays} == expected


def rename_everything(module: nn.Module) -> None:
    """Give every submodule and parameter a name that says nothing."""
    for children in (module._parameters, module._modules):
        renamed = {f"x{i}": child for i, child in enumerate(children.values())}
        children.clear()
        children.update(renamed)
    for child in module.children():
        rename_everything(child)


@pytest.mark.parametrize("recipe", [r for r in list_configs() if r.startswith("pretrain/")])
def test_renaming_changes_no_decay_in_pretraining(recipe):
    model, settings = pretraining(recipe)
    before = [decays for _, decays in rules(model, **settings).values()]
    for part in model.children():  # mmpretrain knows the model's own parts by name
        rename_everything(part)
    after = rules(model, **settings)
    assert all(set(name.partition(".")[2]) <= set("x0123456789.") for name in after)
    assert [decays for _, decays in after.values()] == before


def test_decay_of_class_and_mask_token_can_be_switched_off():
    model, settings = pretraining(blocks=1)
    default = rules(model, **settings)
    switched = rules(model, **settings | dict(no_decay_names=["cls_token", "mask_token"]))
    changed = {name for name in default if default[name] != switched[name]}
    assert changed == {"backbone.cls_token", "decoder.mask_token"}


def test_a_single_name_needs_no_list():
    exempt = {n for n, (_, decays) in rules(no_decay_names="cls_token").items() if not decays}
    assert exempt == {"backbone.cls_token"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(no_decay_names=["cls_tokn"]), r"no_decay_names lists \['cls_tokn'\].*'cls_token'"),
        (dict(no_decay_names="token"), r"no_decay_names lists \['token'\].*'cls_token'"),
        (dict(no_decay_types=["Layernorm"]), r"no_decay_types lists \['Layernorm'\].*'LayerNorm'"),
    ],
)
def test_a_rule_that_fits_no_parameter_is_refused_with_what_there_is(settings, message):
    with pytest.raises(ValueError, match=message):
        construct(TinyModel(), settings)


def test_a_name_that_is_frozen_everywhere_may_be_listed():
    model = TinyModel()
    model.backbone.pos_embed.requires_grad_(False)
    assert rules(model, no_decay_names=["pos_embed"]) == rules(model)


def test_the_table_shows_rate_and_decay_as_the_optimizer_has_them():
    model = TinyModel()
    model.backbone.requires_grad_(False)
    optimizer = SGD(
        [
            dict(params=model.neck.parameters(), lr=0.02),
            dict(params=model.head.weight),
            dict(params=model.head.bias, weight_decay=0.0),
        ],
        lr=0.1,
        weight_decay=0.05,
    )
    assert [line.split() for line in parameter_table(model, optimizer).splitlines()[1:]] == [
        ["neck.weight", "4", "0.2", "yes"],
        ["neck.bias", "4", "0.2", "yes"],
        ["head.weight", "2x48", "1", "yes"],
        ["head.bias", "2", "1", "no"],
    ]
    whole = parameter_table(model, optimizer, with_frozen=True).splitlines()[1:]
    assert len(whole) == len(list(model.parameters()))
    assert ["backbone.cls_token", "1x1x48", "frozen", "-"] in [line.split() for line in whole]


def test_the_summary_counts_tensors_and_values_of_equal_settings_together():
    model = TinyModel()
    groups = [dict(params=[p], lr=0.1, weight_decay=0.0) for p in model.head.parameters()]
    groups.append(dict(params=list(model.neck.parameters()), lr=0.01, weight_decay=0.5))
    lines = [" ".join(line.split()) for line in group_summary(model, groups).splitlines()]
    assert lines == [
        "2 parameter groups:",
        "lr 0.01 weight decay 0.5 2 tensors 8 values, e.g. neck.weight",
        "lr 0.1 weight decay 0 2 tensors 98 values, e.g. head.weight",
    ]
