"""Whether a run is the continuation of the one that a checkpoint is of."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.run.records.differences import Difference, Kind, differences, forgotten
from milan_mm.run.records.record import record_of
from milan_mm.run.records.recorded_model import take_old_rule
from milan_mm.weights.config_text import parse_config

# Fields of a record that say again what others say, or that follow from the split of the batch.
_DERIVED = (
    r"schedule\.(updates_per_epoch|highest_lr|last_lr)",
    r"settings\.train_cfg\.(type|by_epoch|max_epochs|max_iters)",
    r"settings\.train_dataloader\.(num_batch_per_epoch|batch_size|worker_init_fn\..*)",
    r"settings\.train_dataloader\.sampler\.(type|total_batch|round_up)",
    r"settings\.custom_hooks\.\d+\.(interval|save_begin)",
    r"settings\.randomness\.seed",
)
# How often and on what the run is judged, which its weights do not depend on.
_VALIDATION = (
    r"data\.val\..*",
    r"settings\.(val|test|tta)_.*",
    r"settings\.model\.test_cfg\..*",
    r"settings\.train_cfg\.(val_interval|val_begin|dynamic_intervals).*",
)
# By the kind of the optimizer wrapper.
_PRECISIONS = dict(
    OptimWrapper="float32", AmpOptimWrapper="float16", BFloat16OptimWrapper="bfloat16"
)
# Files that were repaired in their place have another hash, but are as many as they were.
_HASH, _OTHER_DATA = "data.train.hash", ("data.train.count", "data.train.root")
_LENGTH = (
    r"schedule\.(updates|epochs|warmup_updates)",
    r"settings\.param_scheduler\.(\d+\.)?"
    r"(begin|end|T_max|milestones|step_size|total_steps|periods|epoch_length)(\..*)?",
)


def check_continuation(
    path: str,
    record: Mapping[str, Any],
    now: Mapping[str, Any],
    fixed: Collection[str] = (),
    new_length: bool = False,
) -> list[str]:
    """Compare the record of a checkpoint with that of the run that is to go on from it.

    Args:
        path: Of the checkpoint, for messages.
        record, now: See `record_of`; what one of them leaves open is not compared.
        fixed: Dotted names of the fields that the user set.
        new_length: Whether the user asks for a longer or shorter run.

    Returns:
        Lines for the log about differences that change nothing.

    Raises:
        UserError: Naming what differs, with both values, when the result would not be a
            continuation.
    """
    found = [
        difference
        for difference in differences(dict(record), dict(now), "resume", fixed)
        if not _is(difference.field, _DERIVED) and not _is_open(difference)
    ]
    fields = {difference.field for difference in found}
    harmless = [
        d
        for d in found
        if d.kind is Kind.HARMLESS
        or _is(d.field, _VALIDATION)
        or (d.field == _HASH and not fields & {*_OTHER_DATA})
    ]
    length = [d for d in found if d not in harmless and _is(d.field, _LENGTH)]
    wrong = [d for d in found if d not in harmless and d not in length]
    if wrong:
        raise UserError(_refusal(path, record, now, wrong))
    if length and not new_length:
        raise UserError(_other_length(path, record, now, length))
    # this is asked twice, and only the second time the data are known
    is_built = bool(now["data"])
    said = [
        d
        for d in harmless
        if d.field.startswith("data.") or (not is_built and _is(d.field, _VALIDATION))
    ]
    return [f"{path}: {_shown(said)}; the training goes on as it was"] if said else []


def other_precision(path: str, meta: Mapping[str, Any], cfg: Config) -> list[str]:
    """Say when a run goes on in another precision, which a machine may not leave a choice about.

    Args:
        path: Of the checkpoint. meta: Of it; whoever wrote it need not be trusted.
        cfg: Fitted to the machine.
    """
    text = meta.get("cfg")
    before, now = map(_precision, (parse_config(text) if isinstance(text, str) else {}, cfg))
    if None in (before, now) or before == now:
        return []
    return [f"{path} was trained in {before}, and the run goes on in {now}"]


def _precision(config: Mapping[str, Any]) -> str | None:
    wrapper = config.get("optim_wrapper")
    if not isinstance(wrapper, Mapping):
        return None
    return _PRECISIONS.get(str(wrapper.get("type", "OptimWrapper")).rpartition(".")[2])


def record_from_config(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record that a checkpoint from before records would have, as far as its config says.

    Args:
        meta: Of the checkpoint; whoever wrote it need not be trusted.

    Returns:
        None where there is no config in it.
    """
    text = meta.get("cfg")
    values = parse_config(text) if isinstance(text, str) else {}
    if not isinstance(values.get("model"), dict) or not isinstance(values.get("train_cfg"), dict):
        return None
    cfg = Config(values | dict(launcher="none"))
    take_old_rule(cfg)
    record = record_of(cfg)
    record.update(total_batch=cfg.get("total_batch"), encoder=None, classes=None)
    return record


def _is_open(difference: Difference) -> bool:
    """Whether one side does not know: data sets are not built yet, or the file is an old one."""
    return not difference.field.startswith(("settings.", "model.")) and (
        difference.now in (None, {}) or difference.recorded in (None, {})
    )


def _is(field: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, field) for pattern in patterns)


def _refusal(
    path: str, record: Mapping[str, Any], now: Mapping[str, Any], wrong: list[Difference]
) -> str:
    if options := forgotten(record, now):
        return repeat(path, options)
    whose = ""
    if record["recipe"] and record["recipe"] != now["recipe"]:
        whose = f"of the recipe '{record['recipe']}', this is '{now['recipe']}'; "
    return (
        f"{path}: {whose}{_shown(wrong)}: --resume goes on with a run as it was; start a new one "
        f"from these weights by --init-from {path} and another --work-dir"
    )


def repeat(path: str, options: str) -> str:
    """The message to a command that is without options of the run that it should go on with."""
    what = "them" if " --" in options else "it"
    return f"{path}: its run was started with {options}: repeat {what}"


def _other_length(
    path: str, record: Mapping[str, Any], now: Mapping[str, Any], length: list[Difference]
) -> str:
    for unit, flag in (("epochs", "epochs"), ("updates", "iters")):
        before, here = (found["schedule"].get(unit) for found in (record, now))
        if before and here and before != here:
            return (
                f"{path}: the run was started for {before} {unit} and this command is for {here}: "
                f"repeat --{flag} {before}; a larger N trains longer"
            )
    return (
        f"{path}: {_shown(length)}: --epochs N or --iters N beside --resume sets another "
        "length, with the schedule of a run of that length"
    )


def _shown(found: list[Difference]) -> str:
    """The first two, and how many more."""
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return "; ".join(map(_say, found[:2])) + more


def _say(difference: Difference) -> str:
    part, _, value = difference.field.rpartition(".")
    if value == "hash":
        return f"the files of {part} have other names, sizes or annotations than in the checkpoint"
    return str(difference)
