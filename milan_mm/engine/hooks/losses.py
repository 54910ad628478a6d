"""Average the logged loss over processes."""

import math

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from milan_mm.engine.finite.faults import remedy
from milan_mm.engine.hooks.finite import FiniteHook
from milan_mm.errors import NonFiniteLossError
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class LossHook(Hook):
    """Averages the losses over all processes before they are logged.

    Without the average, the log shows only the first process's share of the batch. From a GPU all
    of them are read at the same time, while mmengine would wait for each.

    `FiniteHook` stops at a loss that is NaN or infinite. In a run that has none, of another
    library's tools, this hook does.
    """

    priority = "HIGHEST"  # before RuntimeInfoHook, which copies the losses into the log

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Replace the values of `outputs` by their means, in place.

        Args:
            outputs: Scalars by name: tensors or numbers, the same names on every process.

        Raises:
            NonFiniteLossError: The loss is not finite, and there is no `FiniteHook`.
        """
        if not outputs:
            return
        tensors = [value for value in outputs.values() if isinstance(value, Tensor)]
        if get_world_size() > 1 or any(tensor.is_cuda for tensor in tensors):
            outputs.update(_means(outputs))
        if "loss" not in outputs or any(isinstance(hook, FiniteHook) for hook in runner.hooks):
            return
        if not math.isfinite(loss := _number(outputs["loss"])):
            raise NonFiniteLossError(
                f"the loss is {loss} at iteration {runner.iter + 1}: {remedy(runner)}"
            )


def _number(value: Tensor | float) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)


def _means(outputs: dict[str, Tensor | float]) -> dict[str, Tensor]:
    """Means over the processes, in a single all-reduce, on the CPU."""
    names = sorted(outputs)
    device = next((v.device for v in outputs.values() if isinstance(v, Tensor)), None)
    values = [torch.as_tensor(outputs[n], dtype=torch.float32, device=device) for n in names]
    means = torch.stack([value.detach().mean() for value in values])
    all_reduce(means, op="mean")  # does nothing in a run of one process
    return dict(zip(names, means.cpu(), strict=True))
