"""Private names of torch that this package uses, and what it does in a torch without them.

None has a public equivalent. torch may change them in any release: `tests/test_torch_private.py`
then fails with their name. Without one the results stay right, with more memory or time, and the
log says so once.

`Tensor._version`, which torch's own errors about in-place changes print, is read in
`models/recompute.py`.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

# Of torch.ops.aten: the kernel of F.scaled_dot_product_attention on CPUs. Called directly, it also
# returns the logarithms of the softmax denominators, which a backward pass needs.
CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
# Of torch: what F.softmax's backward pass calls; unlike that, it can write over its input.
SOFTMAX_BACKWARD = "_softmax_backward_data"
# Of torch.ops.mkldnn: whether oneDNN multiplies matrices in bfloat16 on this CPU.
FAST_BFLOAT16 = "_is_mkldnn_bf16_supported"
# Of torch._C._autograd, since torch 2.8: the innermost pair of `saved_tensors_hooks`.
TOP_HOOKS = "_top_saved_tensors_default_hooks"
# Of every nn.Module.
MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_cpu_attention() -> bool:
    """Whether `attend_on_cpu` and `softmax_backward_` work."""
    found = hasattr(torch.ops.aten, CPU_ATTENTION) and hasattr(torch, SOFTMAX_BACKWARD)
    if not found:
        _log_missing(f"{CPU_ATTENTION} or {SOFTMAX_BACKWARD}", "attention on CPUs is slower")
    return found


def attend_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q·k + bias) v, without a gradient.

    Args:
        q: (B, A, M, d). k, v: (B, A, N, d).
        bias: (B, A, M, N) float32, or float64 for such queries.

    Returns:
        The output (B, A, M, d), and the logarithms (B, A, M) of the sums of exponentials.
    """
    return getattr(torch.ops.aten, CPU_ATTENTION)(q, k, v, attn_mask=bias, scale=1.0)


def softmax_backward_(grad_probs: Tensor, probs: Tensor) -> Tensor:
    """Overwrite the gradient of a softmax over the last dimension with that of its input.

    Args:
        grad_probs, probs: (..., N) of the same type.
    """
    backward = getattr(torch, SOFTMAX_BACKWARD)
    return backward(grad_probs, probs, -1, grad_probs.dtype, grad_input=grad_probs)


def has_fast_bfloat16() -> bool:
    """Whether torch's CPU library multiplies matrices in bfloat16; False if torch does not say.

    Elsewhere torch does so with a plain loop, much slower than float32.
    """
    supported = getattr(torch.ops.mkldnn, FAST_BFLOAT16, None)
    if supported is None:
        _log_missing(FAST_BFLOAT16, "CPUs are assumed to be slow in bfloat16")
    return supported is not None and bool(supported())


def sees_outer_hooks() -> bool:
    """Whether `outer_hooks` works."""
    found = hasattr(torch._C._autograd, TOP_HOOKS)
    if not found:
        _log_missing(TOP_HOOKS, "what could be recomputed is kept, which takes more memory")
    return found


def outer_hooks() -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]] | None:
    """Pack and unpack function of the `saved_tensors_hooks` in force; None if there are none."""
    return getattr(torch._C._autograd, TOP_HOOKS)(True)  # True: also while tracing


def has_hooks(module: nn.Module) -> bool:
    """Whether calling this module runs more than its `forward`, there or in the backward pass.

    True if torch does not say.
    """
    hooks = [getattr(module, name, None) for name in MODULE_HOOKS]
    if any(found is None for found in hooks):
        _log_missing(" or ".join(MODULE_HOOKS), "nothing is recomputed, which takes more memory")
        return True
    return any(hooks)


def _log_missing(name: str, consequence: str) -> None:
    if not torch.compiler.is_compiling():  # which cannot log
        _log_once(f"torch {torch.__version__} has no {name}: {consequence}")


@cache
def _log_once(message: str) -> None:
    print_log(message, "current", logging.WARNING)
