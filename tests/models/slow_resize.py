"""The rules by which position tables are resized, written out slowly: one number at a time."""

import math

import torch
from torch import Tensor


def slow_resize(table: Tensor, src: tuple[int, int], dst: tuple[int, int], rule: str) -> Tensor:
    """Resize the patches' rows of a table (1, P + h*w, D); equal grids change nothing."""
    if src == dst:
        return table
    num_extra = table.shape[1] - src[0] * src[1]
    pictures = table[0, num_extra:].double().unflatten(0, src)  # (h, w, D)
    rows, cols = (
        torch.tensor(_weights(s, d, rule)).double() for s, d in zip(src, dst, strict=True)
    )
    resized = torch.einsum("yh,xw,hwd->yxd", rows, cols, pictures).flatten(0, 1)
    return torch.cat([table[:, :num_extra], resized[None].to(table.dtype)], dim=1)


def _weights(src: int, dst: int, rule: str) -> list[list[float]]:
    """What each of `src` values weighs in each of `dst` new ones."""
    return [_row(src, dst, place, rule) for place in range(dst)]


def _row(src: int, dst: int, place: int, rule: str) -> list[float]:
    row = [0.0] * src
    if rule.endswith("-antialias"):  # the kernel is stretched when it shrinks; Keys' has a = -1/2
        ratio = src / dst
        stretch = max(ratio, 1.0)
        centre = (place + 0.5) * ratio
        for i in range(src):
            distance = (i + 0.5 - centre) / stretch
            row[i] = _linear(distance) if rule.startswith("bilinear") else _keys(distance, -0.5)
        return [weight / sum(row) for weight in row]
    if rule.endswith("-corners"):
        centre = place * (src - 1) / (dst - 1) if dst > 1 else 0.0
    else:
        ratio = src / (dst + 0.1) if rule == "bicubic-offset" else src / dst
        centre = (place + 0.5) * ratio - 0.5
    first = math.floor(centre)
    for i in range(first - 1, first + 3):
        distance = i - centre
        weight = _linear(distance) if rule.startswith("bilinear") else _keys(distance, -0.75)
        row[min(max(i, 0), src - 1)] += weight  # the edge is repeated
    return row


def _linear(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _keys(x: float, a: float) -> float:
    """The cubic convolution kernel (Keys, 1981)."""
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return a * (((x - 5) * x + 8) * x - 4) if x < 2 else 0.0
