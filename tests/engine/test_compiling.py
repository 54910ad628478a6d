"""Compiled blocks are the same blocks."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from milan_mm.engine.compiling import CompileBlocksHook, compile_blocks
from milan_mm.registry import MODELS
from tests.helpers import milan_config


@pytest.fixture
def model() -> nn.Module:
    return MODELS.build(milan_config()).train()


def loss_and_gradient(model: nn.Module, imgs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)  # of the masks
    model.zero_grad()
    loss = model.loss(imgs)["loss"]
    loss.backward()
    return loss.detach(), model.backbone.layers[0].attn.qkv.weight.grad.clone()


def test_blocks_of_encoder_decoder_and_teacher_are_compiled(model, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    assert compile_blocks(model) == len(compiled)
    parts = (model.backbone.layers, model.decoder.decoder_blocks, model.head.teacher.module.blocks)
    assert set(compiled) == {block for part in parts for block in part}


def test_names_of_weights_stay(model):
    names = list(model.state_dict())
    compile_blocks(model)
    assert list(model.state_dict()) == names


def test_the_hook_leaves_cpus_alone(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: pytest.fail("compiled"))
    CompileBlocksHook().before_train(SimpleNamespace(model=model))


@pytest.mark.long
def test_loss_and_gradients_are_those_of_plain_blocks(model):
    imgs = torch.randn(2, 3, 96, 96)
    expected = loss_and_gradient(model, imgs)
    compile_blocks(model)
    torch.testing.assert_close(loss_and_gradient(model, imgs), expected, rtol=1e-4, atol=1e-6)
