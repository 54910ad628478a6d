"""FLOPs, counted by torch while the operators run.

A FLOP is an addition or a multiplication in a matrix product, convolution or attention, two per
multiply-accumulate. Norms, activations and softmax are not counted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from milan_mm.torch_private import CPU_ATTENTION


def count_flops(function: Callable, *args: Any) -> int:
    """FLOPs of a call, which runs uncompiled."""
    with (
        torch.compiler.set_stance("force_eager"),  # what is compiled hides its operators
        FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter,
    ):
        function(*args)
    return counter.get_total_flops()


def _cpu_attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _cpu_attention_backward(
    grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# torch's counter knows the fused attention of GPUs, but not that of CPUs.
_ATTENTION = {
    getattr(torch.ops.aten, name): count
    for name, count in (
        (CPU_ATTENTION, _cpu_attention),
        (f"{CPU_ATTENTION}_backward", _cpu_attention_backward),
    )
    if hasattr(torch.ops.aten, name)
}
