"""The private names of torch are there, do what they are used for, and can be done without."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from milan_mm import torch_private
from milan_mm.models.attention import attend
from milan_mm.models.recompute import recompute_input
from milan_mm.models.relative_positions import attend_with_rel_pos


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    """What is logged as a warning."""
    lines: list[str] = []

    def note(message: str, logger: str, level: int) -> None:
        assert (logger, level) == ("current", logging.WARNING)
        lines.append(message)

    monkeypatch.setattr(torch_private, "print_log", note)
    torch_private._log_once.cache_clear()
    return lines


def test_the_attention_kernel_of_cpus_returns_output_and_logsumexp():
    assert torch_private.has_cpu_attention()
    q, k, v = (torch.randn(2, 3, n, 8) for n in (4, 5, 5))
    bias = torch.randn(2, 3, 4, 5)
    out, logsumexp = torch_private.attend_on_cpu(q, k, v, bias)
    logits = q @ k.mT + bias
    torch.testing.assert_close(out, logits.softmax(-1) @ v)
    torch.testing.assert_close(logsumexp, logits.logsumexp(-1))


def test_the_backward_pass_of_softmax_overwrites_its_input():
    logits = torch.randn(3, 5, requires_grad=True)
    probs, grad_probs = logits.softmax(-1), torch.randn(3, 5)
    (expected,) = torch.autograd.grad(probs, logits, grad_probs)
    found = torch_private.softmax_backward_(grad_probs, probs.detach())
    assert found.data_ptr() == grad_probs.data_ptr()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["CPU_ATTENTION", "SOFTMAX_BACKWARD"])
def test_without_either_of_them_cpus_attend_as_gpus_do(name, monkeypatch, logged):
    q, k, v = (torch.randn(2, 2, 6, 8, requires_grad=True) for _ in range(3))
    tables = torch.randn(3, 8), torch.randn(5, 8)
    expected = attend_with_rel_pos(q, k, v, *tables, (2, 3))
    monkeypatch.setattr(torch_private, name, "missing")
    monkeypatch.setattr(torch_private, "attend_on_cpu", lambda *_: pytest.fail("called"))
    for _ in range(2):
        found = attend_with_rel_pos(q, k, v, *tables, (2, 3))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        rounded = [tensor.bfloat16() for tensor in (q, k, v)]
        plain = F.scaled_dot_product_attention(q, k, v)
        torch.testing.assert_close(attend(*rounded).float(), plain, rtol=0.05, atol=0.05)
    assert len(logged) == 1 and "slower" in logged[0]


def test_torch_says_whether_it_is_fast_in_bfloat16(logged):
    assert torch_private.has_fast_bfloat16() in (True, False)
    assert not logged


def test_a_cpu_of_unknown_bfloat16_is_taken_for_slow(monkeypatch, logged):
    monkeypatch.setattr(torch_private, "FAST_BFLOAT16", "missing")
    assert not torch_private.has_fast_bfloat16() and not torch_private.has_fast_bfloat16()
    assert len(logged) == 1 and "slow in bfloat16" in logged[0]


def test_the_innermost_hooks_of_kept_tensors_are_seen():
    assert torch_private.sees_outer_hooks()
    assert torch_private.outer_hooks() is None
    with saved_tensors_hooks(len, len), saved_tensors_hooks(id, abs):
        assert torch_private.outer_hooks() == (id, abs)


def test_hooks_of_modules_are_seen():
    registers = [
        nn.Module.register_forward_hook,
        nn.Module.register_forward_pre_hook,
        nn.Module.register_full_backward_hook,
        nn.Module.register_full_backward_pre_hook,
    ]
    for register in registers:
        module = nn.GELU()
        assert not torch_private.has_hooks(module)
        register(module, lambda *_: None)
        assert torch_private.has_hooks(module), register


def kept_by_a_step() -> int:
    """Tensors that autograd keeps of LayerNorm and linear layer, other than their input."""
    first, layer = nn.LayerNorm(8), nn.Linear(8, 8)
    x, kept = torch.randn(3, 8, requires_grad=True), []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.data_ptr() != x.data_ptr() and tensor.shape == x.shape)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        recompute_input(first, layer, x).sum().backward()
    return sum(kept)


@pytest.mark.parametrize(("name", "missing"), [("TOP_HOOKS", "?"), ("MODULE_HOOKS", ("?",))])
def test_without_a_view_of_hooks_everything_is_kept(name, missing, monkeypatch, logged):
    assert kept_by_a_step() == 0
    monkeypatch.setattr(torch_private, name, missing)
    assert kept_by_a_step() == kept_by_a_step() == 1
    assert len(logged) == 1 and "more memory" in logged[0]


def test_tensors_count_their_changes_in_place():
    tensor = torch.zeros(2)
    before = tensor._version
    tensor.add_(1)
    assert tensor[:1]._version == tensor._version == before + 1
