"""Exact attention on CPUs, with or without a decomposed bias, that never holds an N x N map.

torch's fused kernel for CPUs adds a given bias, but gives no gradient for it, and its backward pass
does not use the bfloat16 matrix products of the rest of torch. Here the fused kernel serves the
forward pass. The backward pass takes some queries at a time and computes their probabilities again
by plain matrix products. In a torch without that private kernel, CPUs attend as GPUs do.

Shape letters: d channels of a head, M queries, N = h*w keys, n = B*A maps (one per image and head).
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from milan_mm.models.free_sizes import are_known, counting
from milan_mm.torch_private import attend_on_cpu, softmax_backward_

# Pairs of a query and a key that one core works on at a time: what fits its caches.
PAIRS_PER_THREAD = 2**21

Part = tuple[slice, slice]


def attend_in_chunks(
    q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor | None = None, bias_w: Tensor | None = None
) -> Tensor:
    """softmax(q·k / sqrt(d) + bias_h + bias_w) v.

    Args:
        q: (B, A, M, d) float. k, v: (B, A, N, d).
        bias_h, bias_w: (B, A, M, h) and (B, A, M, w) in the type of `q`, where N = h*w patches in
            row-major order: what a query adds to the keys of every row and of every column.

    Returns:
        (B, A, M, d) in the type of `q`. Gradients of gradients are not supported.
    """
    nothing = q[..., :0]
    bias_h = nothing if bias_h is None else bias_h
    bias_w = nothing if bias_w is None else bias_w
    return _ChunkedAttention.apply(q, k, v, bias_h, bias_w)


def mark_places(height: int, width: int, like: Tensor) -> Tensor:
    """(B, A, h*w, h+w): a one at the row and at the column of every patch.

    Without rows and columns (0, 0) it is (B, A, N, 0).
    """
    if are_known(height) and not height:
        return like[..., :0]
    rows, columns = (counting(n, like) for n in (height, width))
    is_row = (rows[:, None, None] == rows).expand(-1, width, -1)  # (h, w, h)
    is_column = (columns[:, None] == columns).expand(height, -1, -1)  # (h, w, w)
    places = torch.cat([is_row, is_column], dim=2).flatten(0, 1).to(like.dtype)
    return places.expand(*like.shape[:2], -1, -1)


class _ChunkedAttention(Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor
    ) -> Tensor:
        scaled = q * q.shape[-1] ** -0.5
        if bias_h.shape[-1]:
            out, logsumexp = _attend_with_bias(scaled, k, v, bias_h, bias_w)
        else:
            out, logsumexp = attend_on_cpu(scaled, k, v)
        ctx.save_for_backward(q, k, v, bias_h, bias_w, logsumexp)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, ...]:
        # In one map, where logits = q·k^T / sqrt(d) + bias_h + bias_w and out = probs·v:
        #   probs       = exp(logits - logsumexp)                     (M, N)
        #   grad_v      = probs^T·grad_out                            (N, d)
        #   grad_probs  = grad_out·v^T                                (M, N)
        #   grad_logits = probs * (grad_probs - rowsum(probs * grad_probs))
        #   grad_q      = grad_logits·k / sqrt(d)                     (M, d)
        #   grad_k      = grad_logits^T·q / sqrt(d)                   (N, d)
        #   grad_bias_h = grad_logits, summed over the keys of a row; grad_bias_w, of a column
        q, k, v, bias_h, bias_w, logsumexp = ctx.saved_tensors
        dims, scale = q.shape[-1], q.shape[-1] ** -0.5
        height, width = bias_h.shape[-1], bias_w.shape[-1]
        # A longer dot product gives the logarithm of a probability in one rounding: the larger a
        # probability, the more exact it is.
        queries = _join(q * scale, bias_h, bias_w, _two_parts(-logsumexp, q))  # (n, M, d+h+w+2)
        keys = _join(k, mark_places(height, width, k), torch.ones_like(k[..., :2]))
        values, grads = v.flatten(0, 1), grad_out.flatten(0, 1)
        keys_t, values_t = keys.mT, values.mT
        parts = list(_parts(queries, keys))  # none for an empty batch
        largest = queries[parts[0]].shape[:2] if parts else (0, q.shape[2])
        maps_are_whole = largest[1] == q.shape[2]  # all queries of a map in one part
        if not maps_are_whole:  # every part reads all keys: faster from contiguous rows
            keys_t, values_t = keys_t.contiguous(), values_t.contiguous()
        sum_dtype = q.dtype if maps_are_whole else _full_precision(q)  # sums over parts add up
        grad_q, grad_h, grad_w = (queries.new_empty(t.shape) for t in (q, bias_h, bias_w))
        # transposed, because products with a transposed (M, N) map are slow in bfloat16
        grad_k, grad_v = (keys.new_zeros(t.mT.shape, dtype=sum_dtype) for t in (k, v))
        flat_q, flat_k, flat_v, flat_h, flat_w = (
            t.flatten(0, 1) for t in (grad_q, grad_k, grad_v, grad_h, grad_w)
        )
        buffers = queries.new_empty(2, math.prod(largest) * keys.shape[1])
        for maps, rows in parts:
            part_q, part_grad = queries[maps, rows], grads[maps, rows]
            shape = (*part_q.shape[:2], keys.shape[1])
            probs, grad_probs = (b[: math.prod(shape)].view(shape) for b in buffers)
            torch.bmm(part_q, keys_t[maps], out=probs).exp_()
            torch.bmm(part_grad, values_t[maps], out=grad_probs)
            grad_logits = softmax_backward_(grad_probs, probs)  # in the same memory
            torch.bmm(grad_logits, keys[maps, :, :dims], out=flat_q[maps, rows])
            scaled_q = part_q[..., :dims]
            if maps_are_whole:
                torch.bmm(part_grad.mT, probs, out=flat_v[maps])
                torch.bmm(scaled_q.mT, grad_logits, out=flat_k[maps])
            else:
                flat_v[maps] += part_grad.mT @ probs
                flat_k[maps] += scaled_q.mT @ grad_logits
            if height:
                by_place = grad_logits.unflatten(-1, (height, width))
                flat_h[maps, rows], flat_w[maps, rows] = by_place.sum(-1), by_place.sum(-2)
        return grad_q.mul_(scale), grad_k.mT.to(k.dtype), grad_v.mT.to(v.dtype), grad_h, grad_w


def _attend_with_bias(
    q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor
) -> tuple[Tensor, Tensor]:
    """Output (B, A, M, d) and logsumexp (B, A, M) of scaled queries, with the bias of each part."""
    dtype = _full_precision(q)
    queries, keys, values, by_row, by_column = (t.flatten(0, 1) for t in (q, k, v, bias_h, bias_w))
    out, logsumexp = torch.empty_like(queries), queries.new_empty(queries.shape[:2], dtype=dtype)
    for maps, rows in _parts(queries, keys):
        bias = by_row[maps, rows].to(dtype)[..., None] + by_column[maps, rows, None].to(dtype)
        part_q, part_bias = queries[None, maps, rows], bias.flatten(-2)[None]
        part = attend_on_cpu(part_q, keys[None, maps], values[None, maps], part_bias)
        out[maps, rows], logsumexp[maps, rows] = part
    return out.view(q.shape), logsumexp.view(q.shape[:3])


def _parts(queries: Tensor, keys: Tensor) -> Iterator[Part]:
    """Slices of (n, M, ...) in maps and queries: some whole maps, or some queries of one."""
    (num_maps, num_queries), num_keys = queries.shape[:2], keys.shape[1]
    limit = PAIRS_PER_THREAD * torch.get_num_threads()
    rows = min(num_queries, max(1, limit // num_keys))
    maps = max(1, limit // (num_queries * num_keys))
    for i in range(0, num_maps, maps):
        for m in range(0, num_queries, rows):
            yield slice(i, i + maps), slice(m, m + rows)


def _join(*tensors: Tensor) -> Tensor:
    """Side by side, with images and heads in one dimension: (B, A, N, d) to (n, N, sum of d)."""
    return torch.cat(tensors, dim=-1).flatten(0, 1)


def _two_parts(x: Tensor, like: Tensor) -> Tensor:
    """(...) to (..., 2) whose sum is `x`, more exactly than one number of `like`'s type can be."""
    head = x.to(like.dtype)
    return torch.stack([head, (x - head).to(like.dtype)], dim=-1)


def _full_precision(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
