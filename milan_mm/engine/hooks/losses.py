"""Average the logged loss over processes, and stop on NaN or infinity."""

import math

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from milan_mm.errors import NonFiniteLossError
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class LossHook(Hook):
    """Averages the losses over all processes before they are logged, and stops on NaN or infinity.

    Without the average, the log shows only the first process's share of the batch. With it, all
    processes have the same loss, so all of them stop, before a checkpoint of the broken model is
    saved.
    """

    priority = "HIGHEST"  # before RuntimeInfoHook, which copies the losses into the log

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Replace the values of `outputs` by their means, in place.

        Args:
            outputs: Scalars by name: tensors or numbers, the same names on every process.

        Raises:
            NonFiniteLossError: The loss is not finite.
        """
        if not outputs:
            return
        if get_world_size() > 1:
            outputs.update(_average(outputs))
        if "loss" in outputs and not math.isfinite(loss := _number(outputs["loss"])):
            raise NonFiniteLossError(
                f"the loss is {loss} at iteration {runner.iter + 1}: {_remedy(runner)}"
            )


def _remedy(runner: Runner) -> str:
    """Only what this run can do: it may have no checkpoint yet, and may clip gradients already."""
    last = runner.message_hub.get_info("last_ckpt")
    start = f"start a new run from {last} (--init-from FILE)" if last else "start again"
    clip = (
        ""
        if getattr(runner.optim_wrapper, "clip_kwargs", None)
        else " or with gradient clipping (--cfg-options optim_wrapper.clip_grad.max_norm=1.0)"
    )
    return f"{start} with a lower learning rate (--lr){clip}"


def _number(value: Tensor | float) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)


def _average(outputs: dict[str, Tensor | float]) -> dict[str, Tensor]:
    """Means over the processes, in a single all-reduce."""
    names = sorted(outputs)
    device = next((v.device for v in outputs.values() if isinstance(v, Tensor)), None)
    values = [torch.as_tensor(outputs[n], dtype=torch.float32, device=device) for n in names]
    means = torch.stack([value.detach().mean() for value in values])
    all_reduce(means, op="mean")
    return dict(zip(names, means, strict=True))
