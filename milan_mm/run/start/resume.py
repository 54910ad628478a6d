"""Where a training starts: at the beginning, at a checkpoint, or with the weights of one.

`--resume` goes on with a run or refuses: the updates and rates that follow are those of the run
that was not interrupted, on any number of processes. `--init-from` starts a new run.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.processes import is_main_process
from milan_mm.run.quick import ITERATIONS
from milan_mm.run.records.differences import Use, forgotten
from milan_mm.run.records.record import read_record, record_of
from milan_mm.run.records.recorded_model import take_model, take_old_rule
from milan_mm.run.schedule.schedules import is_iter_based
from milan_mm.run.start.checkpoint_files import (
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
from milan_mm.run.start.origin import AUTO, Origin, Start
from milan_mm.text import shorten_list
from milan_mm.weights.reading import read_checkpoint

# mmengine's loop, and the one that starts where another run has stopped; of epochs, of iterations
_LOOPS = (
    ("EpochBasedTrainLoop", "milan_mm.ResumedEpochLoop"),
    ("IterBasedTrainLoop", "milan_mm.ResumedIterLoop"),
)
_TO_GO_ON = ("meta", "message_hub", "optimizer", "param_schedulers")


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
