"""`frozen_stages` freezes what mmpretrain's option of that name freezes, and nothing else."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmpretrain.models import VisionTransformer

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.registry import MODELS
from milan_mm.run.fields.keys import check_keys
from milan_mm.run.records.differences import Kind, differences
from milan_mm.run.records.record import record_of
from tests.helpers import TINY_ARCH, tiny_vit

DEPTH = TINY_ARCH["num_layers"]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
DETECTOR = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"


def trained_names(module: torch.nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("out_type", ["featmap", "cls_token", "avg_featmap"])
@pytest.mark.parametrize("count", range(1, DEPTH + 1))
def test_the_same_parameters_are_frozen_as_in_mmpretrain(count: int, out_type: str):
    arch = TINY_ARCH | dict(feedforward_channels=4 * TINY_ARCH["embed_dims"])
    theirs = VisionTransformer(
        arch=arch, img_size=32, patch_size=8, out_type=out_type, frozen_stages=count
    )
    ours = tiny_vit(out_type=out_type, frozen_stages=count)
    assert trained_names(ours) == trained_names(theirs)
    assert {n for n, _ in ours.named_parameters()} == {n for n, _ in theirs.named_parameters()}


def test_zero_freezes_what_makes_the_tokens():
    vit = tiny_vit(frozen_stages=0, num_registers=2, pre_norm=True)
    frozen = {name for name, _ in vit.named_parameters()} - trained_names(vit)
    tokens = {"cls_token", "register_tokens", "pos_embed", "pre_norm.weight", "pre_norm.bias"}
    assert frozen == tokens | {"patch_embed.projection.weight", "patch_embed.projection.bias"}


def test_frozen_blocks_stay_in_eval_mode_and_drop_no_path():
    vit = tiny_vit(frozen_stages=2, drop_path_rate=0.9).train()
    frozen = [vit.patch_embed, vit.pre_norm, *vit.layers[:2]]
    assert not any(module.training for part in frozen for module in part.modules())
    assert vit.training and vit.layers[2].training
    in_training = vit.tokens_after(IMAGES, [1])[1]
    assert torch.equal(in_training, vit.eval().tokens_after(IMAGES, [1])[1])


def test_every_parameter_that_is_not_frozen_gets_a_gradient():
    vit = tiny_vit(frozen_stages=1, with_cp=True).train()
    vit(IMAGES)[0].square().sum().backward()
    with_gradient = {n for n, p in vit.named_parameters() if p.grad is not None}
    assert with_gradient == trained_names(vit)  # else DistributedDataParallel would wait


def test_a_step_with_layer_decay_changes_all_but_what_is_frozen():
    cfg = load(DETECTOR)
    model = torch.nn.ModuleDict(dict(backbone=tiny_vit(frozen_stages=2)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = wrapper.optimizer.param_groups
    assert sum(len(g["params"]) for g in groups) == len(trained_names(model))
    wrapper.update_params(model.backbone.train()(IMAGES)[0].square().sum())
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == trained_names(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(frozen_stages=DEPTH + 1), rf"frozen_stages 4 is outside -1\.\.{DEPTH}"),
        (dict(frozen_stages=-2), r"frozen_stages -2 is outside"),
        (dict(frozen_stages=1, frozen=True), r"leave out one of them"),
    ],
)
def test_values_without_a_meaning_are_refused(options: dict, message: str):
    with pytest.raises(UserError, match=message):
        PlainViT(arch=TINY_ARCH, img_size=32, patch_size=8, **options)


def test_a_recipe_takes_it_and_a_test_does_not_ask_for_it():
    cfg, plain = load(DETECTOR), load(DETECTOR)
    cfg.model.backbone.frozen_stages = 3
    check_keys(cfg)
    backbone = MODELS.build(ConfigDict(cfg.model.backbone))
    assert {n.split(".")[1] for n in trained_names(backbone) if "layers" in n[:6]} == set("345")
    trained, now = record_of(cfg), record_of(plain)
    assert trained["model"]["backbone"]["frozen_stages"] == 3
    for use, kind in (("test", Kind.HARMLESS), ("resume", Kind.CONTRADICTION)):
        (found,) = (d for d in differences(trained, now, use) if d.field.endswith("frozen_stages"))
        assert (found.recorded, found.now, found.kind) == (3, -1, kind)
