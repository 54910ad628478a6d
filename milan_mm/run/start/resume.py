"""Where a training starts: at the beginning, at a checkpoint, or with the weights of one.

`--resume` goes on with a run or refuses: the updates and rates that follow are those of the run
that was not interrupted, on any number of processes. `--init-from` starts a new run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.engine.hooks.resuming import InitialWeightsHook, ResumeHook
from milan_mm.engine.loops import ResumedEpochLoop
from milan_mm.engine.unwrapping import unwrapped
from milan_mm.engine.validations import misses_last
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.processes import is_main_process
from milan_mm.run.quick import ITERATIONS
from milan_mm.run.records.differences import Use, forgotten
from milan_mm.run.records.record import KEY, read_record, record_of
from milan_mm.run.records.recorded_model import take_model, take_old_rule
from milan_mm.run.schedule.plan import Plan
from milan_mm.run.schedule.schedules import is_iter_based
from milan_mm.run.schedule.updates import Updates
from milan_mm.run.start.checkpoint_files import (
    accumulation_of,
    check_nothing_is_replaced,
    check_nothing_later,
    list_checkpoints,
    newest_whole,
    updates_of,
)
from milan_mm.run.start.continuation import (
    check_continuation,
    other_precision,
    record_from_config,
    repeat,
)
from milan_mm.run.start.fitting import check_fit, class_tensors, forget_files, other_shapes
from milan_mm.text import shorten_list
from milan_mm.weights.reading import read_checkpoint

AUTO = "auto"
# mmengine's loop, and the one that starts where another run has stopped; of epochs, of iterations
_LOOPS = (
    ("EpochBasedTrainLoop", "milan_mm.ResumedEpochLoop"),
    ("IterBasedTrainLoop", "milan_mm.ResumedIterLoop"),
)
_TO_GO_ON = ("meta", "message_hub", "optimizer", "param_schedulers")


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


def after_restart(cfg: Config, start: Start) -> Start:
    """Where torchrun's restarted processes begin: at the run's own newest checkpoint, if any."""
    if start.trial or not list_checkpoints(cfg):
        return start
    return replace(start, resume=AUTO, init_from=None)


def find_origin(cfg: Config, start: Start) -> Origin:
    """Find the checkpoint that a run starts from, and compare it with the config.

    Done before anything is built. The config takes what the checkpoint's record knows better.

    Raises:
        MissingFileError, UserError: When the options exclude each other, a file cannot be used, the
            run would not be a continuation, or it would replace the checkpoints of another one.
    """
    if cfg.get("resume") and start.resume is None:  # as mmengine's own configs say it
        start = replace(start, resume=cfg.get("load_from") or AUTO)
    if start.init_from:
        return _weights_of(cfg, start, start.init_from)
    if start.resume is None:
        if is_main_process():
            check_nothing_is_replaced(cfg, ITERATIONS if start.trial else 0)
        return Origin(start)
    if start.trial:
        raise UserError(
            "--quick and --resume exclude each other: a trial has a schedule of its own; leave one "
            "of them out"
        )
    found = newest_whole(cfg) if start.resume == AUTO else _find(cfg, start.resume, "--resume")
    if found is None:
        cfg.resume = False
        return Origin(start, notes=[f"no checkpoint in '{cfg.work_dir}': starts at the beginning"])
    path, content, notes = found
    _check_complete(path, content)
    if start.resume != AUTO and is_main_process():
        check_nothing_later(cfg, Path(path), updates_of(content["meta"]))
    if record := read_record(content, path):
        notes += _take_model(cfg, record, path, start)
    else:
        record = _old_record(cfg, content["meta"])
        notes.append(
            f"{path} has no record of its training (it is of an earlier version): its config is "
            "compared, but for the schedule, which this version counts in updates; its data are not"
        )
        notes += take_old_rule(cfg, start.fixed)
    if record:
        now = record_of(cfg)
        notes += check_continuation(path, record, now, start.fixed, start.new_length)
        if record["seed"] is not None:
            cfg.randomness = dict(cfg.get("randomness") or {}, seed=record["seed"])
    notes += other_precision(path, content["meta"], cfg)
    cfg.resume, cfg.load_from = True, path
    usual, resumed = _LOOPS[is_iter_based(cfg)]
    if str(cfg.train_cfg.get("type", usual)).rpartition(".")[2] == usual:
        cfg.train_cfg.pop("by_epoch", None)  # mmengine's other way to say so
        cfg.train_cfg.type = resumed
    return Origin(
        start,
        path,
        content["meta"],
        content["message_hub"],
        record,
        content["state_dict"],
        notes,
    )


def _weights_of(cfg: Config, start: Start, source: str) -> Origin:
    """The checkpoint of `--init-from`, for a new run."""
    for flag, given in (("--resume", start.resume is not None), ("--weights", start.weights)):
        if given:
            raise UserError(
                f"--init-from and {flag} exclude each other: --init-from starts a new run from all "
                "weights of a checkpoint, its encoder included"
                + ("; leave it out to continue its run" if flag == "--resume" else "")
            )
    if is_main_process():
        check_nothing_is_replaced(cfg, ITERATIONS if start.trial else 0)
    path, content, notes = _find(cfg, source, "--init-from")
    tensors = content.get("state_dict", content)
    if not isinstance(tensors, Mapping) or not all(map(torch.is_tensor, tensors.values())):
        raise UserError(
            f"{path} holds no state_dict of tensors: --weights {path} starts from its encoder"
        )
    if record := read_record(content, path):
        # these are the new run's own: its class layers may start anew
        now = record_of(cfg)["model"]
        own = {name: now[name] for name in ("num_classes", "masks")}
        record["model"] = record["model"] | own
        notes += _take_model(cfg, record, path, start)
    cfg.resume, cfg.load_from = False, path
    return Origin(start, path, content.get("meta") or {}, {}, record, tensors, notes)


def _find(cfg: Config, source: str, option: str) -> tuple[str, dict, list[str]]:
    """A file, or the newest whole checkpoint of a work directory."""
    path = Path(source).expanduser()
    if path.is_dir():
        if (found := newest_whole(cfg, path)) is None:
            raise MissingFileError(f"'{source}' holds no checkpoint: give a file")
        return found
    if not path.is_file():
        raise MissingFileError(
            f"checkpoint '{source}' does not exist: give a file or a work directory that does; "
            f"--resume alone takes the newest in '{cfg.work_dir}'"
        )
    try:
        return str(path), read_checkpoint(path), []
    except UserError as error:
        raise UserError(f"{error}{_instead(cfg, path, option)}") from None


def _instead(cfg: Config, damaged: Path, option: str) -> str:
    """What takes the newest whole checkpoint beside one that is not; nothing if there is none."""
    folder = damaged.parent
    try:
        found = newest_whole(cfg, folder)
    except UserError:
        return ""
    if found is None:
        return ""
    is_own = option == "--resume" and folder.resolve() == Path(cfg.work_dir).resolve()
    whole = f"{option} alone" if is_own else f"{option} {folder}"
    return f"; {whole} takes the newest whole one, {Path(found[0]).name}"


def _check_complete(path: str, content: Mapping[str, Any]) -> None:
    """Look for what a training goes on with besides the weights."""
    if not isinstance(content.get("state_dict"), Mapping):
        raise UserError(
            f"{path} is not a training checkpoint, it has no state_dict: --weights {path} starts a "
            "new run from its encoder"
        )
    missing = [name for name in _TO_GO_ON if not isinstance(content.get(name), (dict, list))]
    meta = content.get("meta")
    if isinstance(meta, Mapping):
        missing += [f"meta.{n}" for n in ("epoch", "iter") if type(meta.get(n)) is not int]
    if missing:
        raise UserError(
            f"{path} has no {shorten_list(missing)}, so a training cannot go on from it: "
            f"--init-from {path} starts a new run from its weights"
        )


def _old_record(cfg: Config, meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint from before records says, with this run's name and schedule."""
    if record := record_from_config(meta):
        now = record_of(cfg)
        record["recipe"] = now["recipe"]
        record["settings"]["param_scheduler"] = now["settings"].get("param_scheduler")
    return record


def _take_model(cfg: Config, record: dict[str, Any], path: str, start: Start) -> list[str]:
    """Let the config's model be that of the record; a new run has a training of its own."""
    try:
        use: Use = "test" if start.init_from else "resume"
        return take_model(cfg, record, path, use, start.fixed)
    except UserError as error:
        if start.init_from or record["recipe"] != record_of(cfg)["recipe"]:
            raise
        if options := forgotten(record, record_of(cfg)):
            raise UserError(repeat(path, options)) from None
        raise UserError(f"{error}; --init-from {path} starts a new run from its weights") from None
