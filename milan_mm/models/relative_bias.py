"""Relative position biases of the BEiT family: one number per head for every pair of tokens.

A table for a grid of (h, w) patches has an entry for each of (2h-1)(2w-1) distances, and three
more where there is a class token: from it to a patch, from a patch to it, and from it to itself
(arXiv 2106.08254). Attention adds the entries of all pairs to its logits; unlike decomposed
relative positions they do not depend on the query, and need an N x N bias per head.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from timm.layers import gen_relative_position_index
from torch import Tensor

from milan_mm.models.free_sizes import in_graph, is_recorded

_CLS_ENTRIES = 3


def bias_table_size(grid: tuple[int, int], with_cls_token: bool) -> int:
    """Entries of the table for (h, w) patches."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + _CLS_ENTRIES * with_cls_token


def look_up_bias(
    table: Tensor, src: tuple[int, int], dst: tuple[int, int], with_cls_token: bool
) -> Tensor:
    """The bias of every pair of tokens.

    Args:
        table: (entries, A) float, for a grid of `src` (h, w) patches.
        dst: (h, w) of the patches; for another grid than `src` the table is resized.
        with_cls_token: Whether the class token comes first, and the table has its entries.

    Returns:
        (A, N, N) float, queries first; N = h*w, and 1 for the class token.
    """
    if is_recorded():
        # splines are computed with plain numbers, so a graph serves the size of its example only
        dst = (int(dst[0]), int(dst[1]))
    # no part of a graph may be cached
    index = (_pair_index.__wrapped__ if in_graph() else _pair_index)(dst, with_cls_token)
    table = resize_bias_table(table, src, dst, with_cls_token)
    if not torch.jit.is_tracing():  # a trace would keep the device that it was made on
        index = index.to(table.device)
    return table[index].permute(2, 0, 1)


def resize_bias_table(
    table: Tensor, src: tuple[int, int], dst: tuple[int, int], with_cls_token: bool
) -> Tensor:
    """Resize a table by cubic splines over geometrically spaced distances; gradients pass.

    Entries of small distances stay nearly as they are, those of large ones are stretched, as in
    BEiT's finetuning. The class token's entries do not change.

    Args:
        table: (entries, A) float for `src` (h, w) patches.
        dst: (h, w) wanted; equal grids return the input itself.

    Returns:
        (entries, A) float for `dst`.
    """
    if src == dst:
        return table
    num_extra = _CLS_ENTRIES * with_cls_token
    by_place, extra = table.split([len(table) - num_extra, num_extra])
    by_place = by_place.unflatten(0, (2 * src[0] - 1, 2 * src[1] - 1))  # (2h-1, 2w-1, A)
    rows, cols = (
        torch.tensor(_spline_matrix(s, d)).to(table) for s, d in zip(src, dst, strict=True)
    )
    resized = torch.einsum("yr,xc,rca->yxa", rows, cols, by_place)
    return torch.cat([resized.flatten(0, 1), extra])


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)  # what is cached there would be of no use in training
def _pair_index(grid: tuple[int, int], with_cls_token: bool) -> Tensor:
    """(N, N) int64: the number of the entry for each query and key."""
    return gen_relative_position_index(grid, class_token=with_cls_token)


@lru_cache(maxsize=32)
def _spline_matrix(src: int, dst: int) -> np.ndarray:
    """(2*dst-1, 2*src-1): values at the distances of `dst` patches from those of `src` patches."""
    if src == dst:
        return np.eye(2 * src - 1, dtype=np.float32)
    places = _geometric_places(src, dst)
    wanted = np.arange(-(dst - 1), dst).clip(places[0], places[-1])
    degree = min(3, len(places) - 1)
    if degree == 0:  # one patch: one distance
        return np.ones((2 * dst - 1, 1), dtype=np.float32)
    spline = make_interp_spline(places, np.eye(2 * src - 1), k=degree)
    return spline(wanted).astype(np.float32)


def _geometric_places(src: int, dst: int) -> np.ndarray:
    """The distances, in patches of `dst`, of the 2*src-1 entries: 0, 1, 1+q, 1+q+q^2 ...

    The ratio q, between 1.01 and 1.5, puts the last entry at the largest distance.
    """
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        reach = (1 - ratio ** (src - 1)) / (1 - ratio)
        low, high = (low, ratio) if reach > dst - 1 else (ratio, high)
    steps = np.cumsum(((low + high) / 2) ** np.arange(src - 1))
    return np.concatenate([-steps[::-1], [0], steps])
