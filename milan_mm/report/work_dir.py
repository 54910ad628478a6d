"""A work directory as its files tell it: the starts of a run, its plan, its state and its curves.

Everything is optional, since a run may be of an earlier version, still go on, or have been cut off.
Nothing here runs a config or unpickles a file: configs are parsed, and of a checkpoint `meta` alone
is read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from milan_mm.errors import MissingFileError, UserError
from milan_mm.report.logs import Log, read_log
from milan_mm.report.scalars import Curves, Logged, is_training, join_parts, read_rows
from milan_mm.run.records.run_file import read_run_file
from milan_mm.run.start.checkpoint_files import list_checkpoints_in, newest
from milan_mm.run.start.lock import holder
from milan_mm.text import shorten_list
from milan_mm.weights.config_text import parse_config
from milan_mm.weights.reading import read_meta
from milan_mm.weights.record import read_record

_STAMP = re.compile(r"\d{8}_\d{6}")
LOAD_REPORT = "encoder_weights.json"


@dataclass(frozen=True)
class Part:
    """One start of a training or a test: a folder named by its time.

    Attributes:
        folder: That folder. log: See `Log`.
        rows: Of scalars.json.
        facts: Of run.json; None in runs of earlier versions.
        config: Of the run, as far as it is plain.
        metrics: Of a test, by name; empty for trainings.
    """

    folder: Path
    log: Log
    rows: list[dict[str, Any]]
    facts: dict[str, Any] | None
    config: dict[str, Any]
    metrics: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> "Part":
        """That of a folder."""
        config = folder / "vis_data/config.py"
        text = config.read_text("utf-8", errors="replace") if config.is_file() else ""
        return cls(
            folder,
            read_log(folder / f"{folder.name}.log"),
            read_rows(folder / "vis_data/scalars.json"),
            read_run_file(folder),
            parse_config(text),
            _read_metrics(folder / f"{folder.name}.json"),
        )

    @property
    def is_training(self) -> bool:
        """Whether it trained, or was about to."""
        return self.facts is not None or any(map(is_training, self.rows))

    @property
    def started(self) -> datetime:
        """By the name of the folder."""
        return datetime.strptime(self.folder.name, "%Y%m%d_%H%M%S")

    @property
    def accumulation(self) -> int:
        """Iterations per update."""
        value = _at(self.facts, "record", "split", "accumulation")
        if value is None and "total_batch" in self.config:
            value = _at(self.config, "optim_wrapper", "accumulative_counts")
        return value if isinstance(value, int) and value > 0 else 1

    @property
    def processes(self) -> int | None:
        """That trained together."""
        value = _at(self.facts, "record", "split", "processes")
        if value is None and self.log.environment.get("GPU number", "").isdecimal():
            value = int(self.log.environment["GPU number"])
        return value

    @property
    def start(self) -> float | None:
        """Updates that were done before; None where unknown."""
        if self.facts is not None:
            return self.facts["start"] / self.accumulation
        if self.log.resumed is not None:
            return self.log.resumed / self.accumulation
        return 0.0 if self.log.first else None

    @property
    def images(self) -> int | None:
        """Per iteration, over all processes."""
        batch = _at(self.facts, "record", "split", "batch_per_process")
        batch = batch or _at(self.config, "train_dataloader", "batch_size")
        return batch * self.processes if isinstance(batch, int) and self.processes else None


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
    """

    path: Path
    trainings: list[Part]
    tests: list[Part]
    config: Mapping[str, Any]
    record: Mapping[str, Any] | None
    name: str
    is_locked: bool
    load_report: dict[str, Any] | None = field(default=None)

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
        folders = [p for p in sorted(path.iterdir()) if p.is_dir() and _STAMP.fullmatch(p.name)]
        parts = [Part.read(folder) for folder in folders]
        trainings = [part for part in parts if part.is_training]
        tests = [part for part in parts if part.metrics and not part.is_training]
        last = newest(path)
        if not trainings and not tests and not last:
            raise UserError(_nothing_in(path))
        meta = read_meta(last) if last else {}
        record = next((p.facts["record"] for p in reversed(trainings) if p.facts), None)
        record = record or _record_in(meta, last)
        config = next((p.config for p in [*reversed(trainings), *tests] if p.config), {})
        if not config and isinstance(text := meta.get("cfg"), str):
            config = parse_config(text)
        return cls(
            path=path,
            trainings=trainings,
            tests=tests,
            config=config,
            record=record,
            name=_recipe_name(path, record),
            is_locked=holder(path) is not None,
            load_report=_read_json(path / LOAD_REPORT),
        )

    @cached_property
    def curves(self) -> Curves:
        """Of all trainings together."""
        logged = [Logged(p.rows, p.accumulation, p.start, p.images) for p in self.trainings]
        interval = _at(self.config, "train_cfg", "val_interval")
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
        value = _at(self.record, "schedule", "updates_per_epoch")
        if value is None and self.by_epoch:
            lengths = [p.log.length for p in self.trainings if p.log.by_epoch and p.log.length]
            value = lengths[-1] // self.trainings[-1].accumulation if lengths else None
        return value or None

    @property
    def total(self) -> int | None:
        """Updates of the whole run; None where unknown."""
        value = _at(self.record, "schedule", "updates")
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
        saved = [c.updates for c in list_checkpoints_in(self.path)]
        for part in self.trainings[-1:]:  # its files may have been moved
            per_epoch = self.per_epoch if part.log.saved_epochs else None
            saved.append(part.log.saved // part.accumulation)
            saved.append(part.log.saved_epochs * (per_epoch or 0))
        return max([self.curves.last, *saved])

    @property
    def unit(self) -> str:
        """What a run without epochs counts."""
        is_trial = not self.config.get("total_batch") and not _at(self.record, "total_batch")
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
        model = str(_at(self.config, "model", "type") or _at(self.record, "model", "type") or "")
        if model.rpartition(".")[2] in ("MILAN", "MAE"):
            return "pretrain"
        scopes = dict(mmdet="det", mmseg="seg", mmpretrain="cls")
        return scopes.get(str(self.config.get("default_scope")), "other")


def _at(node: Any, *keys: str) -> Any:
    """A value in nested dicts; None where one is missing."""
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _read_metrics(path: Path) -> dict[str, float]:
    """The numbers that a test wrote, without its times."""
    content = _read_json(path) or {}
    return {
        name: float(value)
        for name, value in content.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and name not in ("data_time", "time")
    }


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
