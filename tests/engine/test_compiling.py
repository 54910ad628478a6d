"""A compiled step is the same step."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from milan_mm.engine.compiling import CompileHook, compile_parts
from milan_mm.registry import MODELS
from tests.helpers import TINY_ARCH, milan_config, tiny_vit


@pytest.fixture
def model() -> nn.Module:
    return MODELS.build(milan_config()).train()


def loss_and_gradient(model: nn.Module, imgs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)  # of the masks
    model.zero_grad()
    loss = model.loss(imgs)["loss"]
    loss.backward()
    return loss.detach(), model.backbone.layers[0].attn.qkv.weight.grad.clone()


def test_blocks_teacher_and_the_ends_of_the_step_are_compiled(model, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda method, **_: compiled.append(method) or method)
    assert compile_parts(model) == len(compiled)
    parts = {(method.__self__, method.__name__) for method in compiled}
    blocks = [*model.backbone.layers, *model.decoder.decoder_blocks]
    assert parts == {
        *((block, "forward") for block in blocks),
        *((model.head.teacher.module, method) for method in ("look", "attend")),
        *((model.decoder, method) for method in ("_embed", "_predict")),
        (model.backbone, "embed"),
        (model.head, "loss"),
    }


def test_names_of_weights_stay(model):
    names = list(model.state_dict())
    compile_parts(model)
    assert list(model.state_dict()) == names


def test_the_hook_leaves_cpus_alone(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    CompileHook().before_train(SimpleNamespace(model=model))


def test_one_compilation_serves_blocks_of_all_drop_path_rates(monkeypatch):
    graphs = []

    def note_graph(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiler = partial(torch.compile, backend=note_graph)
    monkeypatch.setattr(torch, "compile", compiler)
    model = tiny_vit(arch=TINY_ARCH | dict(num_layers=12), drop_path_rate=0.2).train()
    compile_parts(model)
    model(torch.randn(2, 3, 32, 32))
    assert len(graphs) == 3  # embed, the first block, whose rate is 0, and all others


def test_validation_runs_plain():
    graphs = []
    layer = torch.compile(nn.Linear(2, 2), backend=lambda graph, _: graphs.append(graph) or graph)
    hook, x = CompileHook(), torch.randn(1, 2)
    hook.before_val(None)
    layer(x)
    assert not graphs
    hook.after_val(None)
    layer(x)
    assert graphs


@pytest.mark.long
def test_loss_and_gradients_are_those_of_the_plain_step(model):
    imgs = torch.randn(2, 3, 96, 96)
    expected = loss_and_gradient(model, imgs)
    compile_parts(model)
    torch.testing.assert_close(loss_and_gradient(model, imgs), expected, rtol=1e-4, atol=1e-6)
