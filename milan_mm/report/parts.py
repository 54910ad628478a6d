"""One start of a training or a test, as the folder named by its time tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from milan_mm.report.logs import Log, read_log
from milan_mm.report.scalars import is_training, read_rows
from milan_mm.report.stranger import is_inside, read_json, safe_config, safe_facts, safe_record
from milan_mm.run.records.run_file import FILE as RUN_FILE
from milan_mm.run.records.run_file import read_run_file
from milan_mm.run.records.tested import FILE as TESTED_FILE
from milan_mm.run.records.tested import read_tested_file
from milan_mm.weights.config_text import parse_config

_MOST = 10**15  # iterations of a run


@dataclass(frozen=True)
class Part:
    """One start of a training or a test: a folder named by its time.

    Attributes:
        folder: That folder. log: See `Log`.
        rows: Of scalars.json.
        facts: Of run.json; None in runs of earlier versions.
        config: Of the run, as far as it is plain.
        metrics: Of a test, by name; empty for trainings.
        tested: Of tested.json; None for trainings, and for tests of earlier versions.
    """

    folder: Path
    log: Log
    rows: list[dict[str, Any]]
    facts: dict[str, Any] | None
    config: dict[str, Any]
    metrics: dict[str, float]
    tested: dict[str, Any] | None = None

    @classmethod
    def read(cls, folder: Path, work_dir: Path) -> "Part":
        """That of a folder; files that links place outside of the work directory are left out."""
        names = {
            name: folder / name
            for name in (f"{folder.name}.log", f"{folder.name}.json", RUN_FILE, TESTED_FILE)
        } | {name: folder / "vis_data" / name for name in ("config.py", "scalars.json")}
        there = {name: path for name, path in names.items() if is_inside(path, work_dir)}
        config = there.get("config.py")
        text = config.read_text("utf-8", errors="replace") if config else ""
        log, metrics = there.get(f"{folder.name}.log"), there.get(f"{folder.name}.json")
        tested = read_tested_file(folder) if TESTED_FILE in there else None
        if tested and isinstance(tested.get("record"), Mapping):
            tested["record"] = safe_record(tested["record"])
        return cls(
            folder,
            read_log(log) if log else Log(),
            read_rows(there["scalars.json"]) if "scalars.json" in there else [],
            safe_facts(read_run_file(folder)) if RUN_FILE in there else None,
            safe_config(parse_config(text)),
            _read_metrics(metrics) if metrics else {},
            tested,
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
        value = at(self.facts, "record", "split", "accumulation")
        if value is None and "total_batch" in self.config:
            value = at(self.config, "optim_wrapper", "accumulative_counts")
        return value if isinstance(value, int) and value > 0 else 1

    @property
    def processes(self) -> int | None:
        """That trained together."""
        value = at(self.facts, "record", "split", "processes")
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
        batch = at(self.facts, "record", "split", "batch_per_process")
        batch = batch or at(self.config, "train_dataloader", "batch_size")
        return batch * self.processes if isinstance(batch, int) and self.processes else None

    @property
    def checkpoint(self) -> str:
        """What a test judged, as the user named it; empty where nothing tells."""
        return self.tested["checkpoint"] if self.tested else self.log.checkpoint

    @property
    def checkpoint_name(self) -> str:
        """That in words, with how far its training had come."""
        if not self.checkpoint:
            return "a checkpoint that was not recorded"
        tested = self.tested or {}
        unit = "epoch" if tested.get("by_epoch") else "iter"
        done = tested.get(unit, 0)
        done = done if 0 <= done < _MOST else 0
        words = {"epoch": "epoch", "iter": "iteration"}
        return self.checkpoint + (f" ({words[unit]} {done:,})" if done else "")


def at(node: Any, *keys: str) -> Any:
    """A value in nested dicts; None where one is missing."""
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _read_metrics(path: Path) -> dict[str, float]:
    """The numbers that a test wrote, without its times."""
    content = read_json(path) or {}
    return {
        name: float(value)
        for name, value in content.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and name not in ("data_time", "time")
    }
