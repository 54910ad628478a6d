"""Inputs that are computed again: the same results, less kept."""

import weakref
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from milan_mm.models.block import EncoderLayer, FeedForward
from milan_mm.models.recompute import recompute_input
from milan_mm.pretrain.decoder import PromptingLayer

DIMS = 8


def plain(first: Callable, layer: Callable, x: Tensor) -> Tensor:
    return layer(first(x))


def results(way: Callable, first: nn.Module, layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, then the gradients of the input and of all parameters."""
    x = x.detach().requires_grad_()
    out = way(first, layer, x.clone())  # not a leaf, which no layer may change
    parameters = [*first.parameters(), *layer.parameters()]
    return [out, *torch.autograd.grad(out.sin().sum(), [x, *parameters])]


class Call(nn.Module):
    """A linear layer within something else."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.linear = nn.Linear(DIMS, DIMS)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear, x)


LAYERS = {
    "linear": lambda linear, x: linear(x),
    "used twice": lambda linear, x: linear(x) * linear(-x),
    "part of it": lambda linear, x: linear(x[:1]),
    "changed in place": lambda linear, x: linear(x.add_(1)),
    "transposed back": lambda linear, x: linear(x.transpose(0, 1) * linear.weight[0]),
    "two of it": lambda linear, x: linear(torch.cat([x, x], dim=1)),
}
FIRSTS = {
    "norm": lambda: nn.LayerNorm(DIMS),
    "activation": nn.GELU,
    "nothing": nn.Identity,
    "transposed": lambda: Call(lambda linear, x: linear(x).transpose(0, 1)),
    "part": lambda: Call(lambda linear, x: linear(x)[1:]),
}


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("shape", [(3, 5, DIMS), (3, 0, DIMS)])
@pytest.mark.parametrize("mixed", [False, True])
def test_output_and_gradients_are_those_of_plain_autograd(first, layer, shape, mixed):
    parts = (FIRSTS[first](), Call(LAYERS[layer]), torch.randn(shape))
    with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
        found, expected = results(recompute_input, *parts), results(plain, *parts)
    for ours, reference in zip(found, expected, strict=True):
        assert ours.dtype == reference.dtype
        tolerance = 0.03 if mixed else 1e-6
        torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)


class Watched(nn.Module):
    """Remembers the outputs of a module without keeping them alive."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.outputs: list[weakref.ref] = []

    def forward(self, x: Tensor) -> Tensor:
        out = self.module(x)
        self.outputs.append(weakref.ref(out))
        return out

    def num_alive(self) -> int:
        return sum(ref() is not None for ref in self.outputs)


def kept_by(run: Callable[[], Tensor]) -> list[Tensor]:
    """What autograd keeps of a forward pass, as hooks around it see it."""
    kept = []

    def record(tensor: Tensor) -> Tensor:
        kept.append(tensor.detach())
        return tensor

    with saved_tensors_hooks(record, lambda tensor: tensor):
        run()
    return kept


def holds(kept: list[Tensor], wanted: Tensor) -> bool:
    flat = wanted.flatten()
    return any(t.dtype == flat.dtype and torch.equal(t.flatten(), flat) for t in kept)


def outputs_of(modules: list[nn.Module], run: Callable[[], Tensor]) -> list[Tensor]:
    """Of these modules while this runs. Hooks on them make everything be kept."""
    found: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _, __, out: found.append(out)) for m in modules]
    kept = kept_by(run)
    for hook in hooks:
        hook.remove()
    assert all(holds(kept, out) for out in found)
    return found


@pytest.mark.parametrize("mixed", [False, True])
def test_the_input_of_the_layer_is_not_kept_but_its_source(mixed):
    first, layer = nn.LayerNorm(DIMS), nn.Linear(DIMS, DIMS)
    x = torch.randn(3, 5, DIMS)
    with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
        kept = kept_by(lambda: recompute_input(first, layer, x))
    made = first(x)
    assert holds(kept, x)
    assert not holds(kept, made) and not holds(kept, made.bfloat16())


def test_hooks_of_the_first_run_once():
    first, calls = nn.LayerNorm(DIMS), []
    first.register_forward_hook(lambda *_: calls.append(1))
    recompute_input(first, nn.Linear(DIMS, DIMS), torch.randn(3, DIMS)).sum().backward()
    assert calls == [1]


def block_of_kind(kind: str) -> EncoderLayer:
    options = dict(
        table=dict(bias_grid=(2, 2), num_prefix_tokens=1),
        scaled=dict(layer_scale=0.1, act="QuickGELU"),
        checkpointed=dict(with_cp=True),
    )
    return EncoderLayer(DIMS, 2, **options.get(kind, {})).train()


each_kind = pytest.mark.parametrize("kind", ["plain", "table", "scaled", "checkpointed"])


def test_blocks_keep_no_output_of_norms_and_activation():
    block, x = block_of_kind("plain"), torch.randn(2, 5, DIMS, requires_grad=True)
    outputs = outputs_of([block.ln1, block.ln2, block.ffn.layers[0][1]], lambda: block(x))
    kept = kept_by(lambda: block(x))
    assert len(outputs) == 3
    assert not any(holds(kept, out) for out in outputs)


@each_kind
def test_a_forward_pass_without_a_backward_pass_leaves_nothing(kind):
    block = block_of_kind(kind)
    watched = block.ffn.layers[0][0] = Watched(block.ffn.layers[0][0])
    x = torch.randn(2, 5, DIMS, requires_grad=True)
    ref = weakref.ref(x)
    out = block(x, grid=(2, 2))
    del out, x
    assert ref() is None and watched.num_alive() == 0


def checkpoint_inside(block: EncoderLayer, x: Tensor) -> Tensor:
    return block(x)


def checkpoint_around(block: EncoderLayer, x: Tensor) -> Tensor:
    return checkpoint(block, x, use_reentrant=False)


@pytest.mark.parametrize("run", [checkpoint_inside, checkpoint_around])
def test_a_checkpointed_block_keeps_its_input_alone(run):
    block = EncoderLayer(DIMS, 2, with_cp=run is checkpoint_inside).train()
    hidden = block.ffn.layers[0][0] = Watched(block.ffn.layers[0][0])
    attended = block.attn.proj = Watched(block.attn.proj)
    out = run(block, torch.randn(2, 5, DIMS, requires_grad=True))
    assert hidden.num_alive() == attended.num_alive() == 0
    out.sum().backward()
    assert block.ln1.weight.grad.any()


def test_hooks_around_a_block_see_all_that_it_keeps():
    """As `save_on_cpu` must, to move it."""
    block = EncoderLayer(DIMS, 2)
    hidden = block.ffn.layers[0][0] = Watched(block.ffn.layers[0][0])
    with saved_tensors_hooks(lambda kept: kept.clone(), lambda kept: kept):
        out = block(torch.randn(2, 5, DIMS, requires_grad=True))
    assert hidden.num_alive() == 0  # its copy is
    out.sum().backward()
    assert block.ln1.weight.grad.any()


def test_parameters_of_the_moment_are_those_of_the_backward_pass():
    """As `torch.func.functional_call` lends them to a module."""
    block, x = EncoderLayer(DIMS, 2), torch.randn(2, 5, DIMS)
    lent = {name: torch.randn_like(p, requires_grad=True) for name, p in block.named_parameters()}
    out = torch.func.functional_call(block, lent, (x,))
    found = torch.autograd.grad(out.sin().sum(), list(lent.values()))
    block.load_state_dict(lent)
    expected = torch.autograd.grad(block(x).sin().sum(), list(block.parameters()))
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, reference)


def test_a_norm_that_changed_before_the_backward_pass_is_an_error():
    first, layer = nn.LayerNorm(DIMS).requires_grad_(False), nn.Linear(DIMS, DIMS)
    out = recompute_input(first, layer, torch.randn(3, DIMS))
    first.weight.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        out.sum().backward()


def draw(act: nn.Module) -> nn.Module:
    return nn.Sequential(act, nn.Dropout(0.5))


@pytest.mark.parametrize("act", [draw(nn.GELU()), nn.SiLU(inplace=True), nn.ReLU(inplace=True)])
def test_activations_that_cannot_run_again_run_once(act):
    mlp = FeedForward(DIMS)
    mlp.layers[0][1] = act
    parts = (list(mlp.parameters()), torch.randn(4, DIMS))
    grads = []
    for forward in (mlp, nn.Sequential(*mlp.layers[0], mlp.layers[1])):
        torch.manual_seed(0)
        grads.append(torch.autograd.grad(forward(parts[1]).sin().sum(), parts[0]))
    for ours, reference in zip(*grads, strict=True):
        assert torch.equal(ours, reference)


@pytest.mark.parametrize("name", ["weight", "input"])
def test_a_change_in_place_before_the_backward_pass_is_an_error(name):
    layer, x = nn.Linear(DIMS, DIMS), torch.randn(3, DIMS, requires_grad=True)
    out = recompute_input(nn.Identity(), layer, x)
    with torch.no_grad():
        (layer.weight if name == "weight" else x).mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        out.sum().backward()


def test_the_prompting_block_keeps_no_output_of_norms_and_activation():
    block = PromptingLayer(DIMS, 2)
    masked, prompts = (torch.randn(2, n, DIMS, requires_grad=True) for n in (5, 3))
    parts = [block.ln1, block.ln2, block.ffn.layers[0][1]]
    outputs = outputs_of(parts, lambda: block(masked, prompts))
    kept = kept_by(lambda: block(masked, prompts))
    assert len(outputs) == 3
    assert not any(holds(kept, out) for out in outputs)


def test_the_prompting_block_keeps_no_rounded_prompts():
    block = PromptingLayer(DIMS, 2)
    masked, prompts = (torch.randn(2, n, DIMS, requires_grad=True) for n in (5, 3))
    with torch.autocast("cpu", torch.bfloat16):
        kept = kept_by(lambda: block(masked, prompts))
    assert holds(kept, prompts) and not holds(kept, prompts.bfloat16())


def test_doubles_are_not_rounded_under_autocast():
    block = EncoderLayer(DIMS, 2).double()
    with torch.autocast("cpu", torch.bfloat16):
        out = block(torch.randn(2, 5, DIMS, dtype=torch.float64))
    assert out.dtype == torch.float64


def test_gradients_of_gradients_are_right():
    first, layer = nn.LayerNorm(DIMS).double(), nn.Linear(DIMS, 3).double()
    x = torch.randn(2, DIMS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: recompute_input(first, layer, x).sin(), x)


def test_a_second_backward_pass_gives_the_same():
    first, layer = nn.LayerNorm(DIMS), nn.Linear(DIMS, DIMS)
    out = recompute_input(first, layer, torch.randn(3, DIMS)).sin().sum()
    (once,) = torch.autograd.grad(out, layer.weight, retain_graph=True)
    (twice,) = torch.autograd.grad(out, layer.weight)
    assert torch.equal(once, twice)
