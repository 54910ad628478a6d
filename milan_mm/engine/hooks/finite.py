"""Stop before the optimizer learns from a loss or a gradient that is not finite."""

import re
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.engine.agreement import Agreement
from milan_mm.engine.fault_report import FaultReport, progress_of
from milan_mm.engine.faults import Finding, Part, guilty, message, remedy
from milan_mm.engine.generators import generator_states
from milan_mm.engine.hooks.updates import has_updated
from milan_mm.engine.norms import gradient_norm
from milan_mm.engine.sharding import is_sharded
from milan_mm.engine.state import (
    broken_state,
    broken_tensors,
    broken_weight,
    fill,
    optim_wrappers,
    plain_name,
    whole_weights,
)
from milan_mm.engine.tracing import Trace, replay
from milan_mm.engine.unwrapping import unwrapped
from milan_mm.errors import NonFiniteLossError
from milan_mm.registry import HOOKS
from milan_mm.text import shorten_list
from milan_mm.weights.reading import read_checkpoint

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
        self._checked_at = -1
        self._exempt: set[str] = set()
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Watch the losses of the model and the steps of its optimizers."""
        self._runner = runner
        model = unwrapped(runner.model)
        self._exempt = set(map(plain_name, broken_state(runner)))
        for wrapper in optim_wrappers(runner):
            self._handles.append(wrapper.optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(model.register_forward_hook(self._note_loss))
        preprocessor = getattr(model, "data_preprocessor", None)
        if isinstance(preprocessor, nn.Module):
            self._handles.append(preprocessor.register_forward_pre_hook(self._note_generators))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the batch until the update is over."""
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
        if any(_saves_now(hook, runner) for hook in runner.hooks):
            self._check_state()

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at the weights before they are saved."""
        self._check_state()

    def before_val(self, runner: Runner) -> None:
        """Look at the weights before they are judged, and perhaps saved as the best."""
        if self._handles:  # in the middle of a training
            self._check_state()

    def before_gathering(self, runner: Runner) -> None:
        """Look at weights that are spread over processes, in all of them; see `ShardedRunner`."""
        if self._handles:
            self._check_state()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at what another hook saves; the main process is alone here."""
        if not self._handles or self._checked_at == runner.iter:
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
            loss, _ = model.parse_losses(returned)
            self._parts[-1].loss = loss.detach().float()

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
        return any(hasattr(wrapper, "loss_scaler") for wrapper in optim_wrappers(self._runner))

    def _is_known(self, norm: Tensor) -> bool:
        """Whether the norm can be read without a wait: mmengine does it, to clip by it."""
        return norm.device.type == "cpu" or any(
            wrapper.clip_grad_kwargs and wrapper.grad_name == "grad_norm"
            for wrapper in optim_wrappers(self._runner)
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
        """Find out what was wrong, write the report, and end the run.

        Args:
            is_damaged: Whether the optimizer has stepped.
        """
        runner = self._runner
        weights = (runner.message_hub.get_info("last_ckpt") or "") if is_damaged else None
        part, trace, note = self._replay(weights)
        weight = "" if is_damaged else broken_weight(unwrapped(runner.model))
        finding = Finding.of(part, self._what(part), trace, weight, note)
        findings: list[Finding] = all_gather_object(finding)
        rank = guilty(findings)
        path = Path(runner.work_dir, f"nonfinite_iter_{findings[rank].iteration}.pth")
        state = {} if is_damaged else whole_weights(unwrapped(runner.model))
        problem = self._write(part, finding, path, state, weights) if get_rank() == rank else ""
        problem = all_gather_object(problem)[rank]
        barrier()
        images = sorted({name for finding in findings for name in finding.images})
        if images:
            runner.logger.error(f"images of the batch: {', '.join(images)}")
        raise NonFiniteLossError(
            message(
                findings,
                unwrapped(runner.model),
                parts=len(self._parts),
                advice=remedy(runner),
                path=path,
                problem=problem,
                command=self.command,
            )
        )

    def _what(self, part: Part) -> str:
        if part.loss is not None and not part.is_finite:
            return f"the loss is {part.loss.item():g}"
        if int(self._skips) >= SKIPS:
            return f"the gradients overflowed float16 in {SKIPS} updates in a row"
        if self.norm is None or bool(self.norm.isfinite()):
            return "the loss of another process is not finite"
        return f"the gradient norm is {self.norm.item():g}"

    def _replay(self, weights: str | None) -> tuple[Part, Trace, str]:
        """Repeat the parts of the update, until one shows what is to blame.

        Args:
            weights: Checkpoint to take them from; None takes those of the model.
        """
        model, trace = unwrapped(self._runner.model), Trace()
        faults = [not part.is_finite for part in self._parts]
        # all processes repeat the same parts: shards are exchanged on the way
        is_fault = [any(flags) for flags in zip(*all_gather_object(faults), strict=True)]
        parts = [p for p, fault in zip(self._parts, is_fault, strict=True) if fault] or self._parts
        if weights == "":
            return parts[0], trace, "it was not replayed, since there is no checkpoint yet"
        try:
            if weights:
                fill(model, read_checkpoint(weights)["state_dict"])
            wrapper = optim_wrappers(self._runner)[0]
            # shards are gathered by what is around the model
            caller = self._runner.model if is_sharded(self._runner.model) else model
            traces = [replay(model, wrapper, part.batch, part.generators, caller) for part in parts]
        except Exception as error:  # must not hide what happened
            first = next(iter(str(error).strip().splitlines()), "")
            return parts[0], trace, f"a replay failed, {type(error).__name__}: {first}"
        for part, trace in zip(parts, traces, strict=True):
            if trace.first is not None:
                return part, trace, ""
        same = f" with the weights of {weights}" if weights else ""
        return parts[0], trace, f"a replay{same} was finite"

    def _write(
        self, part: Part, finding: Finding, path: Path, state: dict, weights: str | None
    ) -> str:
        """Write the report; why it could not be written, or nothing."""
        report = FaultReport(
            iteration=part.iteration,
            what=finding.what,
            batch=part.batch,
            generators=part.generators,
            state_dict=state,
            checkpoint=weights or "",
            progress=progress_of(self._runner.message_hub)
            | dict(rank=get_rank(), world_size=get_world_size()),
            images=finding.images,
            loss=None if part.loss is None else part.loss.item(),
        )
        try:
            report.write(path)
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""

    def _check_state(self) -> None:
        """Look at everything that a checkpoint holds, in all processes."""
        if self._checked_at == self._runner.iter:
            return
        self._checked_at = self._runner.iter
        self._agreement.exchange(self._fault())
        if self._agreement.latest():  # in the middle of an update
            self._stop(is_damaged=False)
        broken = [n for n in broken_state(self._runner) if plain_name(n) not in self._exempt]
        self._agreement.exchange(int(bool(broken)))
        if self._agreement.latest():
            raise NonFiniteLossError(self._unsaved(broken))

    def _unsaved(self, broken: list[str]) -> str:
        return (
            f"not finite after iteration {self._runner.iter + 1}: {shorten_list(broken)}; its loss "
            f"and gradients were, so its step was too large; nothing of it is saved: "
            f"{remedy(self._runner)}"
        )


def _saves_now(hook: Hook, runner: Runner) -> bool:
    """Whether mmengine's hook saves after this iteration, of a run that counts them.

    It removes an older checkpoint before it writes the new one, so the weights are looked at first.
    """
    if getattr(hook, "is_due", False):  # our own hook has waited for the end of the update
        return True
    return (
        isinstance(hook, CheckpointHook)
        and not hook.by_epoch
        and (
            hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and hook.is_last_train_iter(runner))
        )
    )
