"""Stop before the optimizer learns from a loss or a gradient that is not finite."""

import re
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.engine.agreement import Agreement
from milan_mm.engine.finite.faults import Part, remedy
from milan_mm.engine.finite.investigation import investigate
from milan_mm.engine.finite.state import broken_state, broken_tensors, plain_name
from milan_mm.engine.generators import generator_states
from milan_mm.engine.hooks.updates import has_updated
from milan_mm.engine.norms import gradient_norm
from milan_mm.engine.unwrapping import optim_wrappers, unwrapped
from milan_mm.errors import NonFiniteLossError
from milan_mm.registry import HOOKS
from milan_mm.text import shorten_list

_PARTS = ("state_dict", "ema_state_dict", "optimizer")  # of a checkpoint, those of numbers
SKIPS = 30  # updates in a row that a loss scale skips; 16 bring it from 65536 to 1


@HOOKS.register_module()
class FiniteHook(Hook):
    """Looks at loss and gradient norm before each step of the optimizer.

    On CPUs the run stops before the step: the weights are those of the update before. On GPUs
    nothing waits for the answer. It is read after the iteration, when mmengine has read the losses
    anyway, and before anything copies or saves the weights: then the step was made, and no
    checkpoint has it. Where mmengine clips by the norm it has waited already, so GPUs stop before
    the step too. All processes stop at the same update.

    Before a checkpoint and before a validation, weights, running statistics, averaged copies of the
    model and the optimizer's state are looked at too, but for those that were not finite when the
    training began (masks of -inf).

    With float16, gradients overflow now and then: the loss scale falls, and the step is skipped.
    That stops a run after 30 updates in a row.

    Costs one pass over the gradients per update. The images of an update stay in memory until its
    end.

    Not for configs: `milan_mm.run.training` adds it to every run.

    Args:
        command: Of the run, for the advice how to repeat its last step, by one process.
    """

    priority = "VERY_HIGH"  # after RuntimeInfoHook, before averaged copies and checkpoints

    def __init__(self, command: str = "") -> None:
        alone = r" --(launcher|local[-_]rank)[ =]\S+| --fsdp\b"
        self.command = re.sub(alone, "", command)
        self.norm: Tensor | None = None  # of the gradients, at the last step
        self._agreement = Agreement()
        self._parts: list[Part] = []
        self._has_stepped = self._is_update_over = False
        self._skips: int | Tensor = 0
        self._is_checked = False  # since the last iteration began
        self._exempt: set[str] = set()
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Watch the losses of the model and the steps of its optimizers."""
        self._runner = runner
        model = unwrapped(runner.model)
        self._exempt = set(map(plain_name, broken_state(runner)))
        for wrapper in optim_wrappers(runner.optim_wrapper):
            self._handles.append(wrapper.optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(model.register_forward_hook(self._note_loss))
        preprocessor = getattr(model, "data_preprocessor", None)
        if isinstance(preprocessor, nn.Module):
            self._handles.append(preprocessor.register_forward_pre_hook(self._note_generators))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the batch until the update is over."""
        self._is_checked = False
        if self._is_update_over:
            self._parts.clear()
            self._is_update_over = False
        self._parts.append(Part(runner.iter + 1, data_batch))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Read what could not be read before the step, before anything is saved.

        Raises:
            NonFiniteLossError: Loss, gradients or weights are not finite.
        """
        is_late = self._take_late_loss(outputs)
        if has_updated(runner.optim_wrapper):
            self._is_update_over = True
            if not self._has_stepped and self._has_scale():  # it found infinite gradients
                self._skips = self._skips + 1
            if not self._has_stepped or is_late:
                self._agreement.exchange(self._fault())
            if self._agreement.latest():
                self._stop(is_damaged=self._has_stepped)
            self._has_stepped = False

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at the weights before they are saved."""
        self._check_state()

    def before_val(self, runner: Runner) -> None:
        """Look at the weights before they are judged, and perhaps saved as the best."""
        if self._handles:  # in the middle of a training
            self._check_state()

    def before_saving(self, runner: Runner) -> None:
        """Look at the weights, in all processes; those call it that save (`hooks/saving.py`)."""
        if self._handles:
            self._check_state()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at what another hook saves; the main process is alone here."""
        if not self._handles or self._is_checked:
            return
        parts = (broken_tensors(checkpoint.get(part)) for part in _PARTS)
        broken = [name.removeprefix(".") for names in parts for name in names]
        if broken := [name for name in broken if plain_name(name) not in self._exempt]:
            raise NonFiniteLossError(self._unsaved(broken))

    def after_train(self, runner: Runner) -> None:
        """Leave model and optimizers as they were."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._parts.clear()

    def _note_generators(self, preprocessor: nn.Module, _: object) -> None:
        """The first thing in a step: whatever seeds generators has done so."""
        if self._parts and unwrapped(self._runner.model).training:
            self._parts[-1].generators = generator_states()

    @torch.no_grad()
    def _note_loss(self, model: Any, _: object, returned: Any) -> None:
        """The number whose gradients are about to be computed."""
        if self._parts and model.training and isinstance(returned, dict):
            try:
                loss, _ = model.parse_losses(returned)
                self._parts[-1].loss = loss.detach().float()
            except Exception:  # not losses: whatever comes of them, gradients are looked at too
                return

    def _take_late_loss(self, outputs: dict | None) -> bool:
        """Of a model that computes its loss in another way, and shows it after the step only."""
        part = self._parts[-1] if self._parts else None
        if part is None or part.loss is not None or not outputs or "loss" not in outputs:
            return False
        part.loss = torch.as_tensor(outputs["loss"]).detach().float().mean()
        return True

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Measure, and stop where that does not wait."""
        self.norm = gradient_norm(optimizer)
        self._has_stepped = True
        overflow = getattr(optimizer, "found_inf", None)  # of a fused one with a loss scale
        if overflow is None:
            self._skips = 0
            self._agreement.exchange(self._fault(self.norm))
        else:
            self._skips = (self._skips + 1) * (overflow.reshape(()) > 0)
            self._agreement.exchange(self._fault())
        if self._is_known(self.norm) and self._agreement.latest():
            self._stop(is_damaged=False)

    def _has_scale(self) -> bool:
        return any(
            hasattr(wrapper, "loss_scaler")
            for wrapper in optim_wrappers(self._runner.optim_wrapper)
        )

    def _is_known(self, norm: Tensor) -> bool:
        """Whether the norm can be read without a wait: mmengine does it, to clip by it."""
        return norm.device.type == "cpu" or any(
            wrapper.clip_grad_kwargs and wrapper.grad_name == "grad_norm"
            for wrapper in optim_wrappers(self._runner.optim_wrapper)
        )

    def _fault(self, norm: Tensor | None = None) -> Tensor | int:
        """Whether something is wrong in this process: 0 or 1, or () bool where it was computed."""
        values = [part.loss for part in self._parts if part.loss is not None]
        values += [] if norm is None else [norm]
        fault: Any = 0
        if values:
            device = values[-1].device
            fault = ~torch.stack([v.float().to(device) for v in values]).isfinite().all()
        return fault | (self._skips >= SKIPS)

    def _stop(self, is_damaged: bool) -> None:
        """Find out what was wrong, and end the run.

        Args:
            is_damaged: Whether the optimizer has stepped.
        """
        raise NonFiniteLossError(
            investigate(self._runner, self._parts, self._what, is_damaged, self.command)
        )

    def _what(self, part: Part) -> str:
        if part.loss is not None and not part.is_finite:
            return f"the loss is {part.loss.item():g}"
        if int(self._skips) >= SKIPS:
            return f"the gradients overflowed float16 in {SKIPS} updates in a row"
        if self.norm is None or bool(self.norm.isfinite()):
            return "the loss of another process is not finite"
        return f"the gradient norm is {self.norm.item():g}"

    def _check_state(self) -> None:
        """Look at everything that a checkpoint holds, in all processes."""
        if self._is_checked:
            return
        self._is_checked = True
        self._agreement.exchange(self._fault())
        if self._agreement.latest():  # in the middle of an update
            self._stop(is_damaged=False)
        broken = [n for n in broken_state(self._runner) if plain_name(n) not in self._exempt]
        self._agreement.exchange(int(bool(broken)))
        if self._agreement.latest():  # where processes hold other buffers or states than the first
            names = dict.fromkeys(name for found in all_gather_object(broken) for name in found)
            raise NonFiniteLossError(self._unsaved(list(names)))

    def _unsaved(self, broken: list[str]) -> str:
        return (
            f"not finite after iteration {self._runner.iter + 1}: {shorten_list(broken)}; its loss "
            f"and gradients were, so its step was too large; nothing of it is saved: "
            f"{remedy(self._runner)}"
        )
