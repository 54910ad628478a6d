"""How much of what a machine can multiply a step uses: its FLOPs, and the rate of a plain product.

A ratio to a peer depends on the processor as much as on the code. The share of the machine's own
matrix rate, measured in the same run and with the same threads, does not.
"""

import statistics
from collections.abc import Callable

import torch

from milan_mm.benchmark.contest import Comparison, Entry, Measurements, default_device, now
from milan_mm.benchmark.flop_count import count_flops

# Side of the square matrices and number of products in a step: a few hundred milliseconds
_PRODUCTS = dict(cpu=(2048, 5), cuda=(8192, 20))
_NAME = "matrix product, "  # of a contestant, before the precision


def prepare(precision: str) -> Callable[[], None]:
    """A contestant: one step multiplies square matrices a few times.

    Args:
        precision: Name of a floating-point type of torch.
    """
    device = default_device()
    side, products = _PRODUCTS[device.type]
    a, b = (torch.randn(side, side, device=device).to(getattr(torch, precision)) for _ in range(2))
    out = torch.empty_like(a)

    def step() -> None:
        for _ in range(products):
            torch.mm(a, b, out=out)

    return step


def product_entry(precision: str) -> Entry:
    """The product as a contestant, which runs in turn with the others and under the same load."""
    return Entry(_NAME + precision, f"{__name__}:prepare", dict(precision=precision))


def matrix_rate(precision: str) -> float:
    """FLOP/s of the product in this process, the median of several steps."""
    step = prepare(precision)
    flops = count_flops(step)
    seconds = []
    for _ in range(5):
        start = now()
        step()
        seconds.append(now() - start)
    return flops / statistics.median(seconds)


def compare_shares(
    bench: str,
    case: str,
    names: tuple[str, str],
    precision: str,
    measured: dict[str, Measurements],
    flops: dict[str, int],
) -> Comparison:
    """The shares of the matrix rate that ours and the peer reach.

    Args:
        bench, case: See `Comparison`.
        names: Of ours and of the peer, as contestants.
        precision: Of both; `product_entry(precision)` took part.
        measured: Of all contestants.
        flops: Of a step of each. An implementation that computes more than it needs has more.
    """
    product = _NAME + precision
    peak = flops[product] / measured[product].median
    ours, peer = (100 * flops[name] / measured[name].median / peak for name in names)
    counts = " against ".join(f"{flops[name] / 1e9:,.0f}" for name in names)
    spread = f"of {peak / 1e9:,.0f} GFLOP/s in {precision}; GFLOP per step: {counts}"
    return Comparison(bench, case, "share of the matrix rate", ours, peer, "%", spread)
