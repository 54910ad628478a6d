"""A work directory as its files tell it: the starts of a run, its plan, its state and its curves.

Everything is optional, since a run may be of an earlier version, still go on, or have been cut off.
Nothing here runs a config or unpickles a file: configs are parsed, and of a checkpoint `meta` alone
is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from milan_mm.errors import MissingFileError, UserError
from milan_mm.report.parts import Part, at
from milan_mm.report.scalars import Curves, Logged, join_parts
from milan_mm.report.stranger import is_inside, read_json, safe_config
from milan_mm.run.encoder_weights import LOAD_REPORT
from milan_mm.run.start.checkpoint_files import Checkpoint, list_checkpoints_in, newest
from milan_mm.run.start.lock import FILE as LOCK
from milan_mm.run.start.lock import holder
from milan_mm.text import shorten_list
from milan_mm.weights.config_text import parse_config
from milan_mm.weights.reading import read_meta
from milan_mm.weights.record import read_record

_STAMP = re.compile(r"\d{8}_\d{6}")
_STAMP_LENGTH = len("20261128_100000")


@dataclass
class WorkDir:
    """What a work directory holds.

    Attributes:
        path: Of the folder.
        trainings, tests: In the order of time.
        config: Of the last start.
        record: See `milan_mm.run.records.record.record_of`; None in earlier versions.
        name: Of the recipe.
        is_locked: Whether a training runs there now.
        checkpoints: None where one of them is a link to elsewhere.
    """

    path: Path
    trainings: list[Part]
    tests: list[Part]
    config: Mapping[str, Any]
    record: Mapping[str, Any] | None
    name: str
    is_locked: bool
    load_report: dict[str, Any] | None = field(default=None)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path) -> "WorkDir":
        """Read a folder.

        Raises:
            MissingFileError: When it does not exist.
            UserError: When no run left anything there.
        """
        path = Path(path)
        if not path.is_dir():
            raise MissingFileError(f"work directory '{path}' does not exist")
        folders = [p for p in sorted(path.iterdir()) if p.is_dir() and _is_stamp(p.name)]
        parts = [Part.read(folder, path) for folder in folders if is_inside(folder, path)]
        trainings = [part for part in parts if part.is_training]
        tests = [part for part in parts if part.metrics and not part.is_training]
        checkpoints = _own_checkpoints(path)
        last = newest(path) if checkpoints else None
        if not trainings and not tests and not last:
            raise UserError(_nothing_in(path))
        meta = read_meta(last) if last else {}
        record = next((p.facts["record"] for p in reversed(trainings) if p.facts), None)
        record = record or _record_in(meta, last)
        config = next((p.config for p in [*reversed(trainings), *tests] if p.config), {})
        if not config and isinstance(text := meta.get("cfg"), str):
            config = safe_config(parse_config(text))
        report, lock = path / LOAD_REPORT, path / LOCK
        may_ask = not lock.exists() or is_inside(lock, path)
        return cls(
            path=path,
            trainings=trainings,
            tests=tests,
            config=config,
            record=record,
            name=_recipe_name(path, record),
            is_locked=may_ask and holder(path) is not None,
            load_report=read_json(report) if is_inside(report, path) else None,
            checkpoints=checkpoints,
        )

    def wrote_checkpoint_of(self, test: Part) -> bool:
        """Whether a training of this folder wrote what a test judged; no where nothing tells.

        Runs that started in the same second, as those of a demo do, differ in their records.
        """
        if test.tested is None:  # of an earlier version
            return bool(test.checkpoint) and _lies_in(test.checkpoint, self.path)
        stamp = test.tested.get("experiment_name", "")[-_STAMP_LENGTH:]
        part = next((p for p in self.trainings if p.folder.name == stamp), None)
        if part is None:
            return False
        record = test.tested.get("record")
        if part.facts is None or record is None:
            return _lies_in(test.checkpoint, self.path)
        return record == part.facts["record"]

    @cached_property
    def own_tests(self) -> list[Part]:
        """Those of checkpoints that this run wrote; all of them where nothing was trained."""
        if not self.trainings:
            return self.tests
        return [test for test in self.tests if self.wrote_checkpoint_of(test)]

    @cached_property
    def curves(self) -> Curves:
        """Of all trainings together."""
        logged = [Logged(p.rows, p.accumulation, p.start, p.images) for p in self.trainings]
        interval = at(self.config, "train_cfg", "val_interval")
        every = None
        if isinstance(interval, int) and not self.by_epoch and self.trainings:
            every = interval / self.trainings[-1].accumulation
        return join_parts(logged, self.per_epoch if self.by_epoch else None, every)

    @property
    def by_epoch(self) -> bool:
        """Whether the run counts epochs."""
        return "max_epochs" in (self.config.get("train_cfg") or {})

    @property
    def per_epoch(self) -> int | None:
        """Updates of an epoch; None where unknown."""
        value = at(self.record, "schedule", "updates_per_epoch")
        if value is None and self.by_epoch:
            lengths = [p.log.length for p in self.trainings if p.log.by_epoch and p.log.length]
            value = lengths[-1] // self.trainings[-1].accumulation if lengths else None
        return value or None

    @property
    def total(self) -> int | None:
        """Updates of the whole run; None where unknown."""
        value = at(self.record, "schedule", "updates")
        loop = self.config.get("train_cfg") or {}
        accumulation = self.trainings[-1].accumulation if self.trainings else 1
        if value is None and isinstance(loop.get("max_iters"), int):
            value = loop["max_iters"] // accumulation
        if value is None and isinstance(loop.get("max_epochs"), int) and self.per_epoch:
            value = loop["max_epochs"] * self.per_epoch
        return value

    @cached_property
    def done(self) -> float:
        """Updates so far, by the log and the checkpoints."""
        saved: list[float] = [c.updates for c in self.checkpoints]
        for part in self.trainings[-1:]:  # its files may have been moved
            per_epoch = self.per_epoch if part.log.saved_epochs else None
            saved.append(part.log.saved // part.accumulation)
            saved.append(part.log.saved_epochs * (per_epoch or 0))
        return max([self.curves.last, *saved])

    @property
    def unit(self) -> str:
        """What a run without epochs counts."""
        is_trial = not self.config.get("total_batch") and not at(self.record, "total_batch")
        one_each = all(part.accumulation == 1 for part in self.trainings)
        return "iteration" if is_trial or one_each else "update"

    @property
    def state(self) -> str:
        """'running', 'finished', 'stopped', 'tested' (no training), or 'saved' (a checkpoint)."""
        if self.is_locked:
            return "running"
        if self.total is not None and self.done >= self.total:
            return "finished"
        if self.trainings:
            return "stopped"
        return "tested" if self.tests else "saved"

    @property
    def training_time(self) -> timedelta:
        """Of all trainings, without the time in between."""
        spans = [p.log.last - p.log.first for p in self.trainings if p.log.first and p.log.last]
        return sum(spans, timedelta())

    @property
    def task(self) -> str:
        """'pretrain', 'cls', 'det', 'seg', or 'other'."""
        model = str(at(self.config, "model", "type") or at(self.record, "model", "type") or "")
        if model.rpartition(".")[2] in ("MILAN", "MAE"):
            return "pretrain"
        scopes = dict(mmdet="det", mmseg="seg", mmpretrain="cls")
        return scopes.get(str(self.config.get("default_scope")), "other")


def _is_stamp(name: str) -> bool:
    """Whether this is the name of a start: its time."""
    try:
        datetime.strptime(name, "%Y%m%d_%H%M%S")
    except ValueError:
        return False
    return _STAMP.fullmatch(name) is not None


def _own_checkpoints(path: Path) -> list[Checkpoint]:
    if not all(is_inside(file, path) for file in path.glob("*.pth")):
        return []
    return list_checkpoints_in(path)


def _lies_in(checkpoint: str, folder: Path) -> bool:
    return Path(checkpoint).resolve().parent == folder.resolve()


def _record_in(meta: Mapping[str, Any], path: Path | None) -> dict[str, Any] | None:
    """The record of a checkpoint; None for damaged ones, too."""
    try:
        return read_record(dict(meta=meta), path or "")
    except UserError:
        return None


def _recipe_name(path: Path, record: Mapping[str, Any] | None) -> str:
    if record and isinstance(record.get("recipe"), str) and record["recipe"]:
        return record["recipe"]
    configs = sorted(path.glob("*.py"), key=lambda file: file.stat().st_mtime)
    return configs[-1].stem if configs else path.resolve().name


def _nothing_in(path: Path) -> str:
    inside = [
        p.name
        for p in sorted(path.iterdir())
        if p.is_dir() and any(_STAMP.fullmatch(q.name) for q in p.iterdir() if q.is_dir())
    ]
    if inside:
        return (
            f"'{path}' is not a work directory but holds some: name one of {shorten_list(inside)}"
        )
    return (
        f"'{path}' holds no log, scalars or checkpoint of a run: give the --work-dir of "
        "tools/train.py, or a results.jsonl"
    )
