"""Attention with a decomposed bias, part by part and by a longer dot product: both are exact."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from milan_mm.models import attention as layers
from milan_mm.models import cpu_attention as chunked_attention
from milan_mm.models import relative_positions as relative
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
    monkeypatch.setattr(chunked_attention, "PAIRS_PER_THREAD", pairs)
    tensors = random_tensors(torch.float64)
    found = output_and_gradients(attend_in_chunks, tensors)
    for ours, reference in zip(found, output_and_gradients(explicit, tensors), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pairs", [5 * TOKENS, 10**6])
def test_queries_may_be_fewer_than_keys(pairs: int, monkeypatch: pytest.MonkeyPatch):
    """As in the prompting decoder, where only the masked patches ask."""
    monkeypatch.setattr(chunked_attention, "PAIRS_PER_THREAD", pairs)
    q, k, v, *_ = random_tensors(torch.float64)
    tensors = [q[:, :, :7].detach().requires_grad_(), k, v]
    found = output_and_gradients(attend_in_chunks, tensors)
    references = output_and_gradients(F.scaled_dot_product_attention, tensors)
    for ours, reference in zip(found, references, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pairs", [1, 5 * TOKENS, TOKENS**2, 3 * TOKENS**2, 10**6])
def test_the_parts_cover_every_query_once(pairs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunked_attention, "PAIRS_PER_THREAD", pairs)
    visits = torch.zeros(BATCH * HEADS, TOKENS)
    for part in chunked_attention._parts(visits, visits):
        visits[part] += 1
        assert visits[part].numel() * TOKENS <= max(pairs * torch.get_num_threads(), TOKENS)
    assert (visits == 1).all()


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


def test_a_torch_without_the_private_kernel_attends_as_on_gpus(monkeypatch: pytest.MonkeyPatch):
    q, k, v, *_ = random_tensors(torch.bfloat16)
    tables = [torch.randn(2 * n - 1, DIMS).bfloat16() for n in GRID]
    expected = [layers.attend(q, k, v), relative.attend_with_rel_pos(q, k, v, *tables, GRID)]
    for module in (layers, relative):
        monkeypatch.setattr(module, "HAS_KERNEL", False)
        monkeypatch.setattr(module, "attend_in_chunks", lambda *_: pytest.fail("called"))
    found = [layers.attend(q, k, v), relative.attend_with_rel_pos(q, k, v, *tables, GRID)]
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_uniform_shift_of_all_biases_is_no_change(scale: float):
    q, k, v, bias_h, bias_w = random_tensors()
    out = attend_in_chunks(q, k, v, bias_h + 100 * scale, bias_w)
    torch.testing.assert_close(out, attend_in_chunks(q, k, v, bias_h, bias_w), rtol=0, atol=1e-3)


def test_no_map_of_all_pairs_is_kept_for_the_backward_pass():
    sizes = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend_in_chunks(*random_tensors())
    assert sizes and max(sizes) < BATCH * HEADS * TOKENS**2
