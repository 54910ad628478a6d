"""Attention with a decomposed bias, part by part and by a longer dot product: both are exact."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from milan_mm.models import cpu_attention
from milan_mm.models.cpu_attention import attend_in_chunks
from milan_mm.models.relative_positions import attend_widened

GRID, DIMS = (4, 6), 16
BATCH, HEADS, TOKENS = 3, 2, 24
both = pytest.mark.parametrize("attend", [attend_in_chunks, attend_widened])


def random_tensors(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> list[Tensor]:
    """q, k, v, bias by row, bias by column."""
    widths = (DIMS, DIMS, DIMS, *GRID)
    tensors = (scale * torch.randn(BATCH, HEADS, TOKENS, width) for width in widths)
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def explicit(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """With the map of all pairs."""
    bias = bias_h.repeat_interleave(GRID[1], dim=-1) + bias_w.repeat(1, 1, 1, GRID[0])
    return (q @ k.transpose(-1, -2) / DIMS**0.5 + bias).softmax(-1) @ v


def output_and_gradients(attend: Callable, tensors: list[Tensor]) -> list[Tensor]:
    out = attend(*tensors)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * weights).sum(), tensors)]


@both
def test_output_and_gradients_equal_those_of_the_map_of_all_pairs(attend):
    tensors = random_tensors()
    found = output_and_gradients(attend, tensors)
    for ours, reference in zip(found, output_and_gradients(explicit, tensors), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


# Pairs of one thread: some queries of a map, one map, several, all
@pytest.mark.parametrize("pairs", [5 * TOKENS, TOKENS**2, 3 * TOKENS**2, 10**6])
def test_the_size_of_the_parts_changes_nothing(pairs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_attention, "PAIRS_PER_THREAD", pairs)
    tensors = random_tensors(torch.float64)
    found = output_and_gradients(attend_in_chunks, tensors)
    for ours, reference in zip(found, output_and_gradients(explicit, tensors), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pairs", [5 * TOKENS, 10**6])
def test_queries_may_be_fewer_than_keys(pairs: int, monkeypatch: pytest.MonkeyPatch):
    """As in the prompting decoder, where only the masked patches ask."""
    monkeypatch.setattr(cpu_attention, "PAIRS_PER_THREAD", pairs)
    q, k, v, *_ = random_tensors(torch.float64)
    tensors = [q[:, :, :7].detach().requires_grad_(), k, v]
    found = output_and_gradients(attend_in_chunks, tensors)
    references = output_and_gradients(F.scaled_dot_product_attention, tensors)
    for ours, reference in zip(found, references, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("biased", [False, True])
def test_an_empty_batch_has_empty_gradients(biased: bool):
    shapes = [(0, 2, 6, 8)] * 3 + ([(0, 2, 6, 2), (0, 2, 6, 3)] if biased else [])
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    attend_in_chunks(*inputs).sum().backward()
    assert [tensor.grad.shape for tensor in inputs] == shapes


@both
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_in_bfloat16_only_roundings_are_lost(attend, scale: float):
    """Sharp attention too: scores of 4 times random vectors are around 64."""
    tensors = random_tensors(torch.bfloat16, scale)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    found = output_and_gradients(attend, tensors)
    for ours, reference in zip(found, output_and_gradients(explicit, exact), strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours - reference).norm() < 0.02 * reference.norm()


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_uniform_shift_of_all_biases_is_no_change(scale: float):
    q, k, v, bias_h, bias_w = random_tensors()
    out = attend_in_chunks(q, k, v, bias_h + 100 * scale, bias_w)
    torch.testing.assert_close(out, attend_in_chunks(q, k, v, bias_h, bias_w), rtol=0, atol=1e-3)


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("whole_maps", [0.5, 1, 3])
def test_no_step_holds_more_pairs_than_a_part(whole_maps, monkeypatch: pytest.MonkeyPatch):
    maps, side, dims = 8, 8, 8
    pairs = int(whole_maps * side**4)
    monkeypatch.setattr(cpu_attention, "PAIRS_PER_THREAD", pairs // torch.get_num_threads())
    widths = (dims, dims, dims, side, side)
    tensors = [torch.randn(maps, 1, side**2, w, requires_grad=True) for w in widths]
    with Largest() as largest:
        attend_in_chunks(*tensors).sum().backward()
    buffers, keys = 2 * pairs, maps * side**2 * (dims + side + side + 2)
    assert largest.numel <= max(buffers, keys) < maps * side**4
