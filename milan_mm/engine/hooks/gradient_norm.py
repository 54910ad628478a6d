"""The norm of the gradients in the log, also where nothing is clipped."""

from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from milan_mm.engine.hooks.log_values import log_value, logs_now
from milan_mm.engine.sharding import is_sharded
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class GradientNormHook(Hook):
    """Logs `grad_norm`, the mean over the updates since the last line of the log.

    mmengine logs it only where it clips gradients; there this hook does nothing. The norm is that
    of the whole update: parts of an accumulated batch are added up, processes averaged, and a loss
    scale is taken out. The gradients themselves are only read. It is measured by the main process,
    on its device, and read from there once per line. With `--fsdp` all processes measure their
    shares, and add them up.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0
        self._handle: Any = None

    def before_train(self, runner: Runner) -> None:
        """Measure at each step of the optimizer, unless mmengine does, or there are several."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper) or wrapper.clip_grad_kwargs:
            return
        if is_main_process() or is_sharded(runner.model):
            self._handle = wrapper.optimizer.register_step_pre_hook(self._measure)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Log when it is time."""
        if self._sum is not None and logs_now(runner, batch_idx):
            log_value(runner, "grad_norm", self._sum.item() / self._count)
            self._sum, self._count = None, 0

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer as it was."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @torch.no_grad()
    def _measure(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        norm: Any = get_total_norm(gradients)
        if isinstance(norm, DTensor):  # of gradients that are spread over the processes
            norm = norm.full_tensor()
        # set for a fused optimizer, which takes the loss scale out by itself
        scale = getattr(optimizer, "grad_scale", None)
        norm = norm if scale is None else norm / scale
        self._sum = norm if self._sum is None else self._sum + norm
        self._count += 1
