"""The norm of the gradients in the log, also where nothing is clipped."""

from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from milan_mm.engine.hooks.finite import FiniteHook
from milan_mm.engine.hooks.log_values import log_value, logs_now
from milan_mm.engine.norms import gradient_norm
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
        self._guard: FiniteHook | None = None

    def before_train(self, runner: Runner) -> None:
        """Measure at each step of the optimizer, unless mmengine does, or there are several."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper) or wrapper.clip_grad_kwargs:
            return
        # it has measured them already when this hook's turn comes
        self._guard = next((hook for hook in runner.hooks if isinstance(hook, FiniteHook)), None)
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
        measured = self._guard.norm if self._guard else None
        norm = gradient_norm(optimizer) if measured is None else measured
        self._sum = norm if self._sum is None else self._sum + norm
        self._count += 1
