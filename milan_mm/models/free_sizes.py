"""Image sizes that are not numbers yet, as in graphs that must serve images of any size.

While `torch.jit.trace` or `torch.export` records a graph, a size is a placeholder: a tensor or a
`SymInt`. A comparison with it would settle it for good. So there no size is compared with that of a
table: the table is always resized, which changes nothing where the sizes are equal. And since the
operators that resize cannot be exported everywhere, the resizing is a product with a matrix of
weights, computed from the sizes by plain arithmetic.

Shape letters: m rows of a table, n rows wanted.
"""

from typing import Any

import torch
from torch import Tensor


def are_known(*sizes: Any) -> bool:
    """Whether all sizes are plain numbers, as they are outside of such graphs."""
    return all(isinstance(size, int) for size in sizes)


def in_graph() -> bool:
    """Whether a graph is being made, by a compiler or by those that make it free of sizes."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_recorded() -> bool:
    """Whether `torch.jit.trace` or `torch.export` runs this very Python code."""
    return in_graph() and not torch.compiler.is_dynamo_compiling()


def number(size: Any, like: Tensor) -> Tensor:
    """A size as a scalar tensor, float32, on the device of another tensor."""
    return _ones(size, like).sum().float()


def counting(size: Any, like: Tensor) -> Tensor:
    """(n,) int64: 0, 1 .. n-1, on the device of another tensor."""
    if are_known(size) and not torch.jit.is_tracing():
        return torch.arange(size, device=like.device)
    return _ones(size, like).cumsum(0) - 1


def _ones(size: Any, like: Tensor) -> Tensor:
    """(n,) int64."""
    if torch.jit.is_tracing():  # a trace would keep the device that it was made on
        return (like[(0,) * like.ndim].isnan().long() * 0 + 1).expand(size)
    return torch.ones(size, device=like.device, dtype=torch.int64)


def resize_freely(images: Tensor, src: tuple[int, int], dst: tuple[int, int], rule: str) -> Tensor:
    """What `positions.resize_pos_embed` makes of tables, for sizes that are not known.

    Args:
        images: (1, D, *src) float.
        src: (h, w), known.
        dst: (h, w) wanted.
        rule: Key of `positions.RESIZE_RULES`.

    Returns:
        (1, D, *dst); equal sizes change no value by more than rounding.
    """
    numbers = [number(size, images) for size in dst]
    same = (numbers[0] == src[0]) & (numbers[1] == src[1])
    rows, columns = (
        _weights(m, n, places, same, rule).to(images.dtype)
        for m, n, places in zip(src, numbers, [counting(s, images) for s in dst], strict=True)
    )
    return rows @ images @ columns.T


def _weights(m: int, n: Tensor, places: Tensor, same: Tensor, rule: str) -> Tensor:
    """(n, m) float32: what each row of the table weighs in each new row."""
    kind, _, rest = rule.partition("-")
    if rest == "antialias":
        ratio = m / n
        stretch = ratio.clamp(min=1)
        centres = (places + 0.5) * ratio - 0.5
        distances = counting(m, n) - centres[:, None]
        distances = distances / stretch
        is_linear = kind == "bilinear"
        weights = _linear(distances) if is_linear else _keys(distances, -0.5)
        return weights / weights.sum(dim=1, keepdim=True)
    if rest == "corners":
        centres = places * (m - 1) / (n - 1).clamp(min=1)
    else:
        extra = torch.where(same, 0.0, 0.1) if rest == "offset" else 0.0
        centres = (places + 0.5) * (m / (n + extra)) - 0.5
    # two more rows at either end, for which the outermost rows stand
    distances = counting(m + 4, n) - 2 - centres[:, None]  # (n, m+4)
    weights = _linear(distances) if kind == "bilinear" else _keys(distances, -0.75)
    if m == 1:
        return weights.sum(dim=1, keepdim=True)
    first, last = weights[:, :3].sum(1, keepdim=True), weights[:, -3:].sum(1, keepdim=True)
    return torch.cat([first, weights[:, 3:-3], last], dim=1)


def _linear(distances: Tensor) -> Tensor:
    return (1 - distances.abs()).clamp(min=0)


def _keys(distances: Tensor, a: float) -> Tensor:
    """The cubic convolution kernel (Keys, 1981)."""
    x = distances.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))
