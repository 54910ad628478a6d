"""The checkpoint that a training starts from, if any, and how its run is entered with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.engine.hooks.resuming import InitialWeightsHook, ResumeHook
from milan_mm.engine.loops import ResumedEpochLoop
from milan_mm.engine.unwrapping import unwrapped
from milan_mm.engine.validations import misses_last
from milan_mm.errors import UserError
from milan_mm.run.processes import is_main_process
from milan_mm.run.records.record import KEY
from milan_mm.run.schedule.plan import Plan
from milan_mm.run.schedule.updates import Updates
from milan_mm.run.start.checkpoint_files import accumulation_of, updates_of
from milan_mm.run.start.continuation import check_continuation
from milan_mm.run.start.fitting import check_fit, class_tensors, forget_files, other_shapes

AUTO = "auto"


@dataclass(frozen=True)
class Start:
    """What a user asks about the start of a training.

    Attributes:
        resume: A checkpoint or a work directory to go on from, or `AUTO` for the run's own.
        init_from: A checkpoint, or the work directory of one, whose weights a new run takes.
        weights: Whether an encoder is given by `--weights`.
        new_length: Whether the user states how long the run is.
        trial: Whether it is cut down to a few iterations.
        fixed: Dotted names of the fields that the user set.
    """

    resume: str | None = None
    init_from: str | None = None
    weights: bool = False
    new_length: bool = False
    trial: bool = False
    fixed: Sequence[str] = ()

    @property
    def how_to_go_on(self) -> str:
        """What starts the run again after an interruption, for a sentence."""
        instead = " instead of --init-from" if self.init_from else ""
        return f"the same command with --resume{instead}"


@dataclass
class Origin:
    """The checkpoint that a run starts from, if any.

    Attributes:
        start: What the user asked.
        path: Of the file; empty without one.
        meta, hub, record, tensors: Of the file: its message hub, and the tensors by name.
        notes: Lines for the log.
        is_finished: Whether nothing is left to train.
    """

    start: Start
    path: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    hub: Mapping[str, Any] = field(default_factory=dict)
    record: dict[str, Any] | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_finished: bool = False

    def enter(self, runner: Runner, plan: Plan, record: dict[str, Any]) -> None:
        """Compare with what was built, and let the runner start from the checkpoint.

        Args:
            plan, record: Of the run.

        Raises:
            UserError: When tensors or data do not fit, or the run would end before the checkpoint.
        """
        _check_same(Path(self.path).name, updates_of(self.meta))
        if not self.path:
            return
        model = unwrapped(runner.model)
        forget_files(model)
        if self.start.init_from:
            self._check_weights(runner, model)
        else:
            check_fit(self.path, self.tensors, model.state_dict())
            self._continue(runner, plan, record)
        self.tensors = {}

    def _check_weights(self, runner: Runner, model: nn.Module) -> None:
        wanted = model.state_dict()
        other = other_shapes(self.tensors, wanted)
        left_out = sorted({*other} & class_tensors(runner.cfg)) if other else []
        found = {n: wanted[n] if n in left_out else t for n, t in self.tensors.items()}
        try:
            check_fit(self.path, found, wanted)
        except UserError as error:
            raise UserError(f"{error}; --weights {self.path} starts from its encoder") from None
        runner.register_hook(InitialWeightsHook(left_out))
        new = f"; new, for other classes: {', '.join(left_out)}" if left_out else ""
        taken = len(wanted) - len(left_out)
        runner.logger.info(f"starts from {taken} of {len(wanted)} tensors of {self.path}{new}")

    def _continue(self, runner: Runner, plan: Plan, record: dict[str, Any]) -> None:
        updates = plan.updates
        if self.record and is_main_process():
            for note in check_continuation(
                self.path, self.record, record, self.start.fixed, self.start.new_length
            ):
                runner.logger.info(note)
        done = self._updates_done(updates)
        if done > updates.total:
            raise UserError(
                f"{self.path} has {done} updates and the run would end after {updates.total}: give "
                "a larger --epochs or --iters"
            )
        planned = ((self.record or {}).get("schedule") or {}).get("updates")
        if planned not in (None, updates.total):
            change = "shorter" if updates.total < planned else "longer"
            runner.logger.info(
                f"a {change} run: ends after {updates.total} updates instead of {planned}"
            )
        validates = done == updates.total and misses_last(runner, self.hub, done)
        self.is_finished = done == updates.total and not validates
        if self.is_finished:
            runner.logger.info(
                f"{self.path} is the end of this run, after {done} updates: nothing is left to "
                "train; --resume with a larger --epochs or --iters trains longer"
            )
        per_epoch = updates.per_epoch if updates.epochs else None
        if per_epoch and done % per_epoch and not isinstance(runner.train_loop, ResumedEpochLoop):
            raise UserError(
                f"{self.path} was saved in the middle of an epoch, where "
                f"{type(runner.train_loop).__name__} cannot start: take EpochBasedTrainLoop, or a "
                "checkpoint of a whole epoch"
            )
        # the schedulers that count epochs were not stepped yet when their last update was saved
        is_at_end = per_epoch is not None and done // per_epoch != self.meta["epoch"]
        replay = self.start.new_length or KEY not in self.meta
        hook = ResumeHook(
            done, updates.accumulation, per_epoch, replay, is_at_end and not replay, plan.last_lr
        )
        runner.register_hook(hook)
        if self.is_finished:
            return
        before, after = accumulation_of(self.meta), updates.accumulation
        converted = f", converted from iteration {self.meta['iter']}" if before != after else ""
        runner.logger.info(
            f"resumes {self.path} after update {done} of {updates.total}: iteration "
            f"{done * after}{converted}"
        )

    def _updates_done(self, updates: Updates) -> int:
        """Of the checkpoint; an older version divided epochs otherwise, so theirs are counted."""
        done, epochs = updates_of(self.meta), self.meta["epoch"]
        if KEY in self.meta or not updates.epochs or not epochs or done % epochs:
            return done
        per_epoch = done / epochs
        if abs(per_epoch - updates.per_epoch) >= 1:
            raise UserError(
                f"{self.path} has {per_epoch:g} updates per epoch and the run {updates.per_epoch}: "
                f"it is of other data; start a new run by --init-from {self.path}"
            )
        return epochs * updates.per_epoch


def _check_same(name: str, updates: int) -> None:
    """Let no process start elsewhere than the others, who see another folder or an old list of it.

    Args:
        name: Of the checkpoint; empty without one. updates: Its updates.
    """
    found = all_gather_object((name, updates))
    for rank, other in enumerate(found):
        if other != found[0]:
            first, this = (f"'{n}'" if n else "the beginning" for n, _ in (found[0], other))
            raise UserError(
                f"process 0 starts from {first} and process {rank} from {this}: all machines must "
                "see the same work directory; if they do, start again in a minute"
            )
