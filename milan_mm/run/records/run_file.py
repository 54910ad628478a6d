"""run.json beside the log: the command of a run, its record, and what it changed of its recipe.

A checkpoint holds the record as well, but the first one may be hours away, and a run that was
resumed has one command for each part. Written once, before the first update; `tools/report.py`
reads it.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from milan_mm.run.records.json_file import read_json, write_json
from milan_mm.weights.record import plain

FILE = "run.json"
_VERSION = 1
# Their types, so that whoever reads the file can rely on them.
_KINDS: dict[str, type] = dict(
    command=str, plan=list, iterations=int, start=int, changes=list, record=dict
)


def write_run_file(
    log_dir: str | Path,
    command: str,
    plan: list[str],
    iterations: int,
    start: int,
    changes: list[dict[str, Any]],
    record: Mapping[str, Any],
) -> None:
    """Write what is known when a training starts.

    Args:
        log_dir: Of the run, named by its time.
        command: As the user typed it; empty where a program started the run.
        plan: Lines, see `Plan.lines`.
        iterations: Of the whole run, as the log counts them.
        start: Iterations that were done before, in the terms of this run.
        changes: See `changes_of`.
        record: See `record_of`.
    """
    content = dict(
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=command,
        plan=plan,
        iterations=iterations,
        start=start,
        changes=plain(changes),
        record=plain(dict(record)),
    )
    write_json(Path(log_dir, FILE), _VERSION, content)


def read_run_file(log_dir: str | Path) -> dict[str, Any] | None:
    """What `write_run_file` wrote; None without a whole file of this version."""
    content = read_json(Path(log_dir, FILE), _VERSION)
    if content and all(isinstance(content.get(name), kind) for name, kind in _KINDS.items()):
        return content
    return None
