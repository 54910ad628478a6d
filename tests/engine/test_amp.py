"""Mixed precision: what runs in bfloat16 and what does not."""

from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from milan_mm.engine.amp import BFloat16OptimWrapper


class TwoParts(nn.Module):
    """A backbone that returns a tuple, and a head that notes what arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        (features,) = self.backbone(x)
        self.arrived = features.dtype
        return self.head(features)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        y = self.linear(x)
        self.computed = y.dtype
        return (y,)


def wrapper(model: nn.Module, **settings) -> BFloat16OptimWrapper:
    return BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), **settings)


def test_the_whole_model_runs_in_bfloat16():
    model = TwoParts()
    with wrapper(model).optim_context(model):
        out = model(torch.randn(3, 4))
    assert (model.backbone.computed, model.arrived, out.dtype) == (torch.bfloat16,) * 3


def test_named_modules_run_in_bfloat16_and_hand_float32_on():
    model = TwoParts()
    with wrapper(model, modules=["backbone"]).optim_context(model):
        out = model(torch.randn(3, 4))
    assert model.backbone.computed == torch.bfloat16
    assert (model.arrived, out.dtype) == (torch.float32, torch.float32)


def test_heads_hand_float32_on_in_whatever_they_return():
    class Head(nn.Module):
        def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
            return [x @ x.T, x @ x.T], x @ x.T

    model = nn.ModuleDict(dict(head=Head(), linear=nn.Linear(1, 1)))
    with wrapper(model, modules=["head"]).optim_context(model):
        maps, scores = model["head"](torch.rand(3, 3))
    assert isinstance(maps, list)
    assert [tensor.dtype for tensor in (*maps, scores)] == [torch.float32] * 3
    assert torch.equal(scores, scores.bfloat16().float())  # computed in bfloat16


def test_weights_and_gradients_stay_float32():
    model = TwoParts()
    optim_wrapper = wrapper(model)
    with optim_wrapper.optim_context(model):
        loss = model(torch.randn(3, 4)).float().square().mean()
    optim_wrapper.backward(loss)
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("settings", [{}, dict(modules=["backbone"])])
def test_outside_the_context_everything_is_float32(settings):
    model = TwoParts()
    with wrapper(model, **settings).optim_context(model):
        model(torch.randn(3, 4))
    model(torch.randn(3, 4))
    assert model.backbone.computed == torch.float32


@pytest.mark.parametrize("size", [4, 5])  # the second does not fit: an error inside
@pytest.mark.parametrize("is_own", [False, True])
def test_the_forward_that_was_there_is_put_back(is_own, size):
    model = TwoParts()
    if is_own:
        model.backbone.forward = lambda x: (model.backbone.linear(x),)
    before = dict(vars(model.backbone))
    with (
        suppress(RuntimeError),
        wrapper(model, modules=["backbone"]).optim_context(model),
    ):
        model(torch.randn(3, size))
    after = vars(model.backbone)
    assert ("forward" in after, after.get("forward")) == (is_own, before.get("forward"))


def test_gradients_accumulate_as_in_mmengine():
    model = TwoParts()
    optim_wrapper = wrapper(model, accumulative_counts=2)
    optim_wrapper.initialize_count_status(model, init_counts=0, max_counts=4)
    before = model.head.weight.clone()
    for step in range(2):
        with optim_wrapper.optim_context(model):
            loss = model(torch.ones(3, 4)).float().square().mean()
        optim_wrapper.update_params(loss)
        assert torch.equal(model.head.weight, before) == (step == 0)
