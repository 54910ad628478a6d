"""The vote of the nearest patches, on features that are there already.

Source: the k-NN segmentation of CAPI (arXiv 2502.08769, `eval_segmentation.py` of its repository):
each neighbour has one vote, by the cosine of the angle or by the Euclidean distance.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from milan_mm.evaluation.frozen.bank import Bank

METRICS = ("cosine", "euclidean")


@torch.no_grad()
def patch_votes(
    queries: Tensor,
    bank: Bank,
    ks: Sequence[int],
    metric: str,
    chunk: int = 1024,
    bank_chunk: int = 262_144,
) -> dict[int, Tensor]:
    """Mean shares of the classes in the k nearest patches, for several k in one pass.

    Args:
        queries: (Q, D) float of any precision, on the device that compares.
        bank: Of M patches, there or elsewhere.
        ks: At most M each.
        metric: One of `METRICS`.

    Returns:
        (Q, C) float32 by k.
    """
    compare = _cosine if metric == "cosine" else _closeness
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in queries.split(chunk):
        nearest = _nearest(part.float(), bank, max(ks), compare, bank_chunk)  # (q, max k)
        neighbours = bank.shares_of(nearest)  # (q, max k, C)
        for k in ks:
            found[k].append(neighbours[:, :k].mean(dim=1))
    return {k: torch.cat(parts) for k, parts in found.items()}


def _nearest(
    queries: Tensor,
    bank: Bank,
    k: int,
    compare: Callable[[Tensor, Tensor], Tensor],
    bank_chunk: int,
) -> Tensor:
    """Numbers of the k patches most alike, the most alike first: (q, k) int64."""
    best = queries.new_empty(len(queries), 0)
    numbers = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), bank_chunk):
        block = bank.block(start, start + bank_chunk, queries.device)
        top, ids = compare(queries, block).topk(min(k, len(block)), dim=1)
        best = torch.cat([best, top], dim=1)
        numbers = torch.cat([numbers, ids + start], dim=1)
        best, ids = best.topk(min(k, best.shape[1]), dim=1)
        numbers = numbers.gather(1, ids)
    return numbers


def _cosine(queries: Tensor, block: Tensor) -> Tensor:
    return F.normalize(queries, dim=1) @ F.normalize(block, dim=1).T


def _closeness(queries: Tensor, block: Tensor) -> Tensor:
    return -torch.cdist(queries, block)
