"""Exact attention on CPUs, with or without a decomposed bias, that keeps no map of all pairs.

torch's fused kernel for CPUs adds a given bias, but gives no gradient for it, and its backward pass
does not use the matrix products in bfloat16 that the rest of torch does. Here the fused kernel
serves the forward pass; the backward pass takes some queries at a time, computes their
probabilities again by plain matrix products, and forgets them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Pairs of a query and a key that one core is given at once: what fits the caches of a core.
PAIRS_PER_THREAD = 2**21

Part = tuple[slice, slice, slice]


def attend_in_chunks(
    q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor | None = None, bias_w: Tensor | None = None
) -> Tensor:
    """softmax(q·k / sqrt(d) + bias_h + bias_w) v.

    Args:
        q, k, v: (B, A, N, d) float.
        bias_h, bias_w: (B, A, N, h) and (B, A, N, w) in the type of `q`, where N = h*w patches in
            row-major order: what a query adds to the keys of every row and of every column.

    Returns:
        (B, A, N, d) in the type of `q`. Gradients of gradients are not supported.
    """
    nothing = q[..., :0]
    bias_h = nothing if bias_h is None else bias_h
    bias_w = nothing if bias_w is None else bias_w
    return _ChunkedAttention.apply(q, k, v, bias_h, bias_w)


class _ChunkedAttention(Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor
    ) -> Tensor:
        full, queries = _full_precision(q), q * q.shape[-1] ** -0.5
        out = torch.empty_like(q.transpose(1, 2)).transpose(1, 2)  # heads of a token side by side
        logsumexp = q.new_empty(q.shape[:3], dtype=full)
        with_bias = bias_h.shape[-1] > 0
        for part in _parts(q.shape):
            bias = None
            if with_bias:
                bias = bias_h[part].to(full)[..., None] + bias_w[part].to(full)[..., None, :]
                bias = bias.flatten(-2)
            # the kernel behind F.scaled_dot_product_attention, which hides the logarithms
            out[part], logsumexp[part] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                queries[part], k[part[:2]], v[part[:2]], attn_mask=bias, scale=1.0
            )
        ctx.save_for_backward(q, k, v, bias_h, bias_w, out, logsumexp)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, ...]:
        q, k, v, bias_h, bias_w, out, logsumexp = ctx.saved_tensors
        full, dims = _full_precision(q), q.shape[-1]
        scale = dims**-0.5
        height, width = bias_h.shape[-1], bias_w.shape[-1]
        delta = (grad_out.to(full) * out.to(full)).sum(-1)
        # Longer dot products give the logarithm of a probability, and what is subtracted from its
        # gradient, in one rounding each: the larger a probability, the more exact it is.
        queries = torch.cat([q * scale, bias_h, bias_w, _two_parts(-logsumexp, q)], dim=-1)
        ones = torch.ones_like(k[..., :2])
        keys = torch.cat([k, mark_places(height, width, k), ones], dim=-1).mT.contiguous()
        grads = torch.cat([grad_out, _two_parts(-delta, q)], dim=-1)
        values = torch.cat([v, ones], dim=-1).mT.contiguous()
        k = k.contiguous()
        grad_q, grad_h, grad_w = map(torch.empty_like, (q, bias_h, bias_w))
        # transposed, because products with a transposed map of pairs are slow in bfloat16
        grad_k, grad_v = (torch.zeros(t.mT.shape, dtype=full, device=t.device) for t in (k, v))
        for part in _parts(q.shape):
            over_keys = part[:2]
            probs = (queries[part] @ keys[over_keys]).exp_()
            grad_v[over_keys] += grads[part][..., :dims].mT @ probs
            grad_scores = (grads[part] @ values[over_keys]).mul_(probs)
            grad_q[part] = grad_scores @ k[over_keys]
            grad_k[over_keys] += queries[part][..., :dims].mT @ grad_scores
            if height:
                by_place = grad_scores.unflatten(-1, (height, width))
                grad_h[part], grad_w[part] = by_place.sum(-1), by_place.sum(-2)
        return grad_q.mul_(scale), grad_k.mT.to(k.dtype), grad_v.mT.to(v.dtype), grad_h, grad_w


def _parts(shape: torch.Size) -> Iterator[Part]:
    """Slices of batch, heads and queries: whole images if they are small, else heads, else rows."""
    batch, heads, tokens = shape[:3]
    limit = PAIRS_PER_THREAD * torch.get_num_threads()
    rows = min(tokens, max(1, limit // tokens))
    some_heads = min(heads, max(1, limit // (rows * tokens))) if rows == tokens else 1
    images = min(batch, max(1, limit // (heads * tokens**2))) if some_heads == heads else 1
    for i in range(0, batch, images):
        for j in range(0, heads, some_heads):
            for m in range(0, tokens, rows):
                yield slice(i, i + images), slice(j, j + some_heads), slice(m, m + rows)


def mark_places(height: int, width: int, like: Tensor) -> Tensor:
    """(B, A, h*w, h+w): a one at the row and at the column of every patch.

    Without rows and columns (0, 0) it is (B, A, N, 0).
    """
    if not height:
        return like[..., :0]
    rows = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, dim=0)
    columns = torch.eye(width, dtype=like.dtype, device=like.device).repeat(height, 1)
    return torch.cat([rows, columns], dim=1).expand(*like.shape[:2], -1, -1)


def _two_parts(x: Tensor, like: Tensor) -> Tensor:
    """(...) to (..., 2) whose sum is `x`, with less than the rounding error of one number."""
    head = x.to(like.dtype)
    return torch.stack([head, (x - head).to(like.dtype)], dim=-1)


def _full_precision(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
