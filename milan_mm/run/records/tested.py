"""tested.json beside the log of a test: which checkpoint it judged, and which run wrote that one.

A test may lie in any work directory, so a folder alone does not say whose numbers these are.
`tools/report.py` reads the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milan_mm.run.records.json_file import read_json, write_json
from milan_mm.weights.record import KEY, plain

FILE = "tested.json"
_VERSION = 1
# Of `meta`, as mmengine writes it. The name of the experiment ends in the time of its start.
_META: dict[str, type] = dict(experiment_name=str, epoch=int, iter=int)


def write_tested_file(
    log_dir: str | Path, checkpoint: str | Path, meta: Mapping[str, Any], by_epoch: bool
) -> None:
    """Write what a test is about to judge.

    Args:
        log_dir: Of the test, named by its time.
        checkpoint: Its path, as the user typed it.
        meta: Of the checkpoint; one of another tool may have none.
        by_epoch: Whether its training counts epochs.
    """
    record = meta.get(KEY)
    content = dict(
        checkpoint=str(checkpoint),
        by_epoch=by_epoch,
        record=plain(dict(record)) if isinstance(record, Mapping) else None,
    ) | {name: meta[name] for name, kind in _META.items() if isinstance(meta.get(name), kind)}
    write_json(Path(log_dir, FILE), _VERSION, content)


def read_tested_file(log_dir: str | Path) -> dict[str, Any] | None:
    """What `write_tested_file` wrote; None without a whole file of this version."""
    content = read_json(Path(log_dir, FILE), _VERSION)
    if not content or not isinstance(content.get("checkpoint"), str):
        return None
    return content if all(isinstance(content.get(n, k()), k) for n, k in _META.items()) else None
