"""The arms differ in what they state and in nothing else; all of a seed see the same labels."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation.ablation import row_recipe
from milan_mm.photographs.arms import (
    ARMS,
    DISTILLATION,
    FINETUNE,
    PRETRAIN,
    TEACHERS,
    choose_arms,
    pretraining,
    teachers_of,
)
from milan_mm.photographs.labelled import labelled_lists
from milan_mm.registry import MODELS
from milan_mm.run.building import build_without_memory

CONTROLS = dict(control="shuffled", images="views")  # that differ from MILAN in their teacher
PRETRAINED = [arm for arm in ARMS.values() if arm.is_pretrained]


def recipe(name: str, teacher: str = "random") -> Config:
    arm = ARMS[name]
    return pretraining(arm, load(PRETRAIN), load(DISTILLATION), arm.teacher and teacher)


@pytest.mark.parametrize("name", [arm.name for arm in PRETRAINED if arm.row])
def test_an_arm_is_made_of_the_parts_of_its_row_at_paper_scale(name: str):
    paper = build_without_memory(load(row_recipe(ARMS[name].row)))
    small = build_without_memory(recipe(name))
    for part in ("mask_generator", "decoder", "head"):
        assert type(getattr(small, part)) is type(getattr(paper, part))
    assert small.mask_generator.mask_ratio == paper.mask_generator.mask_ratio
    assert small.head.loss_tokens == paper.head.loss_tokens
    assert getattr(small.head, "norm_pix", None) == getattr(paper.head, "norm_pix", None)
    assert bool(small.head.teacher) == bool(paper.head.teacher) == bool(ARMS[name].teacher)


def test_arms_share_all_but_their_parts():
    milan = recipe("milan", "captions.safetensors").to_dict()
    for arm in PRETRAINED:
        cfg = recipe(arm.name, f"{arm.teacher}.safetensors").to_dict()
        if arm.name in CONTROLS:
            teacher = cfg["model"]["head"]["teacher"]
            assert teacher["pretrained"] == f"{CONTROLS[arm.name]}.safetensors"
            teacher["pretrained"] = "captions.safetensors"
            assert cfg == milan
        if arm.name == "distillation":
            assert cfg["model"]["head"] == milan["model"]["head"]
        for part in ("mask_generator", "decoder", "head"):
            cfg["model"][part] = milan["model"][part]
        assert cfg == milan


def test_distillation_sees_every_patch_and_trains_every_parameter():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(recipe("distillation").model)
    seen = []
    model.decoder.register_forward_hook(lambda _, inputs, pred: seen.append((inputs, pred)))
    loss = model.loss(torch.randn(2, 3, 64, 64))["loss"]
    loss.backward()
    (((latent, ids_keep, ids_mask), pred),) = seen
    assert ids_keep.tolist() == [list(range(64))] * 2
    assert ids_mask.shape == (2, 0)
    assert torch.equal(pred, model.decoder.decoder_pred(latent))
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with pytest.raises(UserError, match="3 patches are hidden, LinearDecoder predicts what"):
        model.decoder(latent[:, :-3], ids_keep[:, :-3], ids_keep[:, -3:])


def test_what_is_finetuned_is_what_was_pretrained():
    pretrain, finetune = (load(name).model.backbone for name in (PRETRAIN, FINETUNE))
    for key in ("type", "arch", "img_size", "patch_size"):
        assert pretrain[key] == finetune[key]


def test_an_arm_that_does_not_exist_is_named_and_others_come_in_the_order_of_the_table():
    assert [arm.name for arm in choose_arms("milan, mae")] == ["mae", "milan"]
    assert teachers_of(choose_arms("scratch,mae")) == []
    assert teachers_of(choose_arms("images,control,row-2")) == ["captions", "shuffled", "views"]
    assert not set(ARMS) & set(TEACHERS)  # their rows stand in one file
    with pytest.raises(UserError, match="--arms 'beit' is not an arm: give some of scratch,mae"):
        choose_arms("mae,beit")


def test_labels_are_drawn_by_the_seed_alone_equally_many_of_each_class():
    images = {f"n{i:02}": [f"n{i:02}/{j:03}.JPEG" for j in range(400)] for i in range(40)}
    lists = labelled_lists(images, 0)
    for share, count in {"1 %": 4, "10 %": 40}.items():
        labels = [line.split()[1] for line in lists[share]]
        assert {labels.count(str(i)) for i in range(40)} == {count}
        assert all(Path(line.split()[0]).parent.name == f"n{int(line.split()[1]):02}"
                   for line in lists[share])  # fmt: skip
    assert set(lists["1 %"]) < set(lists["10 %"])
    turned = {name: files[::-1] for name, files in reversed(images.items())}
    assert labelled_lists(turned, 0) == lists
    assert set(labelled_lists(images, 1)["1 %"]) != set(lists["1 %"])
