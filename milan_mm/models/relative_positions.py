"""Decomposed relative positions (arXiv 2112.01526), without an N x N bias.

The bias of a pair of patches is q·R_h[row distance] + q·R_w[column distance]. It depends on the
key's row and column only, so every query has h + w values where the full bias has h * w.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from milan_mm.models.cpu_attention import attend_in_chunks, mark_places
from milan_mm.models.free_sizes import are_known, counting, in_graph, is_recorded
from milan_mm.torch_private import has_cpu_attention


def attend_with_rel_pos(
    q: Tensor, k: Tensor, v: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, grid: tuple[int, int]
) -> Tensor:
    """softmax(q·k / sqrt(d) + bias) v, where the bias is computed from the unscaled queries.

    Args:
        q, k, v: (B, A, h*w, d) float, patches in row-major order.
        rel_pos_h, rel_pos_w: (2n-1, d) float, one entry for each distance from -(n-1) to n-1; a
            table for another n is resized linearly, as in the published detector.
        grid: (h, w) in patches.

    Returns:
        (B, A, h*w, d) float.
    """
    # recomputed in the backward pass, so that no reordered copies of the queries are kept
    biases = (
        _biases(q, rel_pos_h, rel_pos_w, grid)
        if is_recorded()
        else checkpoint(
            _biases, q, rel_pos_h, rel_pos_w, grid, use_reentrant=False, preserve_rng_state=False
        )
    )
    on_cpu = q.device.type == "cpu" and has_cpu_attention() and not in_graph()
    attend = attend_in_chunks if on_cpu else attend_widened
    return attend(q, k, v, *biases)


def attend_widened(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """`attend_in_chunks` for GPUs: one call of fused attention, with longer queries and keys.

    Each query has its bias for every row and every column appended to its channels, and each key a
    one at its row and its column.
    """
    dims = q.shape[-1]
    height, width = bias_h.shape[-1], bias_w.shape[-1]
    queries = torch.cat([q * dims**-0.5, bias_h, bias_w], dim=-1)
    keys = torch.cat([k, mark_places(height, width, k)], dim=-1)
    # flash attention needs the same width for all three
    values = F.pad(v, (0, height + width))
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)[..., :dims]


def resize_rel_pos(table: Tensor, num_entries: int) -> Tensor:
    """Resize (N, d) to (num_entries, d) linearly; an equal size returns the input itself."""
    if are_known(num_entries, table.shape[0]) and len(table) == num_entries:
        return table
    return F.interpolate(table.T[None], size=num_entries, mode="linear")[0].T


def _biases(
    q: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(B, A, h*w, h) and (B, A, h*w, w): what a query adds to the keys of each row and column."""
    by_place = q.unflatten(2, grid)  # (B, A, h, w, d)
    bias_h = torch.einsum("bahwd,hkd->bahwk", by_place, _by_distance(rel_pos_h, grid[0]))
    bias_w = torch.einsum("bahwd,wkd->bahwk", by_place, _by_distance(rel_pos_w, grid[1]))
    return bias_h.flatten(2, 3).to(q.dtype), bias_w.flatten(2, 3).to(q.dtype)


def _by_distance(table: Tensor, size: int) -> Tensor:
    """(2n-1, d) to (size, size, d): the entry for each pair of a query's and a key's place."""
    places = counting(size, table)
    distances = places[:, None] - places[None, :] + size - 1
    return resize_rel_pos(table, 2 * size - 1)[distances]
