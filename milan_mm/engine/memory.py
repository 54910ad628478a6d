"""How training without a GPU treats the memory that it frees."""

import ctypes
import functools
import os
import sys

import torch

# parameters of glibc's mallopt(3)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


@functools.cache  # the settings last, so once is enough
def keep_freed_memory() -> None:
    """Keep freed memory for the next step, for the rest of the process; needs Linux, glibc, no GPU.

    glibc returns large blocks to the system as soon as they are freed. Linux then clears every page
    again before the next step gets it, which takes a noticeable share of a training step.

    Kept blocks are reused only where the next ones fit. torch's large blocks fit if they begin at a
    page boundary, which THP_MEM_ALLOC_ENABLE=1 ensures if it is set before torch is imported;
    tools/train.py sets it. Otherwise the process grows.
    """
    if sys.platform != "linux" or torch.cuda.is_available():
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # another C library
        return
    libc.mallopt(_MMAP_MAX, 0)  # all blocks come from the heap ...
    libc.mallopt(_TRIM_THRESHOLD, -1)  # ... which never shrinks
    libc.mallopt(_TOP_PAD, 2**26)  # and grows by 64 MiB
    # forked workers of a data loader would share the free pages, and the next step would copy them
    os.register_at_fork(before=lambda: libc.malloc_trim(0))
