"""Do all processes of a run know that something happened in one of them?

A signal reaches one process, or all of them in different iterations; a loss is NaN in one share of
a batch. Whoever acts on it alone leaves the others waiting for its gradients.
"""

import torch
from mmengine.dist import all_reduce, get_comm_device, is_distributed
from torch import Tensor


class Agreement:
    """One number of each process, whose maximum all processes learn at the same update.

    On GPUs nothing waits: the maximum is copied into pinned memory, and read one update later, when
    the copy is done and the GPU has the work of the next update before it. On CPUs the answer is
    that of the update itself. In a run of one process nothing is exchanged, and a number that is
    not a tensor is answered without the GPU.

    All processes must call it equally often, in the same order as other collective calls.
    """

    def __init__(self) -> None:
        self._answer = 0
        self._pinned: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def exchange(self, value: int | Tensor) -> int:
        """Hand in this update's number, and get the newest maximum that is known without a wait.

        Args:
            value: An integer, or a tensor () of any dtype with a whole number, on the device where
                it was computed.

        Returns:
            The maximum over the processes: of this call on CPUs, of the previous one on GPUs, and 0
            before there is any.
        """
        known = self.latest()
        total = self._on_device(value)
        all_reduce(total, op="max")
        if not total.is_cuda:
            self._answer = int(total.item())
            return self._answer
        if self._pinned is None:
            self._pinned = torch.zeros((), dtype=torch.int64, pin_memory=True)
        self._pinned.copy_(total, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record()
        return known

    def latest(self) -> int:
        """The maximum of the last `exchange`; on GPUs this waits for the work before it."""
        if self._copied is not None and self._pinned is not None:
            self._copied.synchronize()
            self._answer, self._copied = int(self._pinned.item()), None
        return self._answer

    @staticmethod
    def _on_device(value: int | Tensor) -> Tensor:
        device = get_comm_device() if is_distributed() else None
        if isinstance(value, Tensor):
            return value.detach().to(device or value.device, torch.int64, copy=True)
        # filled by the argument of a kernel: a copy from this machine's memory might wait
        return torch.full((), value, dtype=torch.int64, device=device or "cpu")
