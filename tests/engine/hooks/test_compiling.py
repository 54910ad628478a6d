"""A compiled step is the same step."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from milan_mm.engine.hooks.compiling import CompileHook, compile_parts
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


def features(vit: nn.Module, imgs: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)  # of the paths that are dropped
    return vit(imgs)[0].detach()


@pytest.fixture
def compiled(monkeypatch) -> list[str]:
    """The methods that are compiled in this test, as 'Class.method'; they run as they are."""
    names = []

    def compile_function(function: Callable, **_: object) -> Callable:
        names.append(function.__qualname__)
        return function

    monkeypatch.setattr(torch, "compile", compile_function)
    return names


@pytest.fixture
def graphs(monkeypatch) -> Iterator[list[torch.fx.GraphModule]]:
    """The graphs that are compiled in this test; they run as they are."""
    graphs = []

    def note_graph(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=note_graph))
    yield graphs
    torch.compiler.reset()


def test_blocks_teacher_and_the_ends_of_the_step_are_compiled(model, compiled):
    compile_parts(model)
    assert Counter(compiled) == {
        "EncoderLayer.forward": len(model.backbone.layers),
        "PromptingLayer.forward": len(model.decoder.decoder_blocks),
        "Teacher.encode": 1,
        "Teacher.class_attention": 1,
        "PretrainDecoder.embed": 1,
        "PretrainDecoder.predict": 1,
        "PlainViT.embed": 1,
        "TargetHead.loss": 1,
    }


def test_names_of_weights_stay(model):
    names = list(model.state_dict())
    compile_parts(model)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_the_hook_compiles_where_there_is_a_gpu_and_leaves_cpus_alone(
    model, compiled, monkeypatch, wrap
):
    runner = SimpleNamespace(model=wrap(model))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    CompileHook().before_train(runner)
    assert not compiled
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    CompileHook().before_train(runner)
    assert "PlainViT.embed" in compiled


def test_a_copy_of_a_compiled_model_has_weights_of_its_own(graphs):
    vit = tiny_vit()
    imgs = torch.randn(1, 3, 32, 32)
    compile_parts(vit)
    expected = vit(imgs)[0]
    assert graphs
    changed = copy.deepcopy(vit)
    for parameter in changed.parameters():
        nn.init.zeros_(parameter)
    assert not changed(imgs)[0].any()
    assert torch.equal(vit(imgs)[0], expected)


@pytest.mark.parametrize(
    ("options", "kinds_of_blocks"),
    [
        ({}, 2),  # the first one, whose rate is 0, and all others
        (dict(with_cp=True), 2),
        (  # ... and the global ones
            dict(
                with_cls_token=False,
                window_size=2,
                rel_pos_grid=4,
                global_layers=(5, 11),
            ),
            3,
        ),
    ],
)
def test_one_compilation_serves_blocks_of_all_drop_path_rates(
    graphs, monkeypatch, options, kinds_of_blocks
):
    monkeypatch.setattr("milan_mm.torch_private.CPU_ATTENTION", "missing")  # as on GPUs
    arch = TINY_ARCH | dict(num_layers=12)
    model = tiny_vit(arch=arch, drop_path_rate=0.2, **options).train()
    compile_parts(model)
    model(torch.randn(2, 3, 32, 32))
    assert len(graphs) == 1 + kinds_of_blocks  # the embedding


def test_the_same_samples_drop_paths_in_a_compiled_step(graphs):
    imgs = torch.randn(4, 3, 32, 32)
    model = tiny_vit(arch=TINY_ARCH | dict(num_layers=4), drop_path_rate=0.5).train()
    expected, without = features(model, imgs), features(model.eval(), imgs)
    compile_parts(model.train())
    found = features(model, imgs)
    assert graphs
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(expected, without)


def test_validation_runs_plain(graphs, model):
    imgs = torch.randn(2, 3, 96, 96)
    compile_parts(model)
    model.eval().loss(imgs)
    assert not graphs
    model.train().loss(imgs)
    assert graphs


def test_a_frozen_encoder_is_compiled_in_training_too(graphs):
    vit = tiny_vit(frozen=True)
    model = nn.Sequential(vit).train()
    compile_parts(model)
    model(torch.randn(1, 3, 32, 32))
    assert not vit.training and graphs


def test_loss_and_gradients_are_those_of_the_plain_step(model, monkeypatch):
    # without inductor: a minute of C++ compilation would test torch, not our parts
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    imgs = torch.randn(2, 3, 96, 96)
    expected = loss_and_gradient(model, imgs)
    compile_parts(model)
    torch.testing.assert_close(loss_and_gradient(model, imgs), expected, rtol=1e-4, atol=1e-6)
