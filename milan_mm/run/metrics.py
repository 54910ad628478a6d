"""metrics.json: what `tools/test.py --out` measured, for programs that go on from there."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.files import replacing
from milan_mm.run.config_nodes import evaluators_of


def why_no_metric(cfg: Config) -> str:
    """One line about a test that measured nothing.

    Args:
        cfg: That was tested.
    """
    for metric in evaluators_of(cfg, "test_dataloader"):
        if metric.get("format_only"):
            place = metric.get("outfile_prefix") or metric.get("output_dir") or "the log"
            return f"no metric was asked for (format_only): the predictions are in {place}"
    if cfg.get("default_scope") == "mmdet":
        return "no metric: no detection is above the config's score threshold, so AP is 0"
    return "no metric: the config's test_evaluator measured nothing"


def check_output(path: str | Path) -> None:
    """Check that a file can be written, before there is something to write.

    Raises:
        UserError: With what is in the way.
    """
    if Path(path).is_dir():
        raise UserError(f"--out '{path}' is a folder: give the name of a file in it")
    _check_writable(Path(path).absolute().parents, f"--out '{path}'")


def check_folder(path: str | Path, option: str) -> None:
    """Check that files can be written into a folder, which need not exist.

    Args:
        option: That names it.

    Raises:
        UserError: With what is in the way.
    """
    place = Path(path).absolute()
    _check_writable([place, *place.parents], f"{option} '{path}'")


def _check_writable(folders: Sequence[Path], place: str) -> None:
    folder = next(folder for folder in folders if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{place}: '{folder}' is not a folder that you can write to")


def write_metrics(path: str | Path, metrics: Mapping[str, float]) -> None:
    """Write the metrics of an evaluator by name; NaN and infinity become null.

    Raises:
        OSError: When the file cannot be written; an older one then stays as it was.
    """
    values = {name: float(value) for name, value in metrics.items()}
    content = {name: value if math.isfinite(value) else None for name, value in values.items()}
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_metrics(path: str | Path) -> dict[str, float | None]:
    """The metrics by name; None where one was undefined."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
