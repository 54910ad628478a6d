"""The step that ended a run, once more, from the report that the run left."""

import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from milan_mm.engine.checkpoints import safe_loading
from milan_mm.engine.finite.batches import broken_images
from milan_mm.engine.finite.report import read_report
from milan_mm.engine.finite.tracing import Row, Trace, replay
from milan_mm.registry import MODELS


@safe_loading()
def replay_report(cfg: Config, path: str | Path) -> list[str]:
    """Repeat a step and describe it; nothing is written, and no data are read.

    Args:
        cfg: Prepared as for the run.
        path: Of the report.

    Returns:
        Lines for the user: losses, images, a table of the model's tensors, and the first of them
        that is not finite.

    Raises:
        MissingFileError, UserError: When the file is not a report, or is of another model.
    """
    report = read_report(path)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        model = _build(cfg)
        report.prepare(model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = model.to(device)
        wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
        trace = replay(model, wrapper, report.batch, report.generators)
    weights = f", with the weights of {report.checkpoint}" if report.checkpoint else ""
    lines = [f"iteration {report.iteration}{weights}: {report.what}"]
    lines += _table(*_of_interest(model, trace.rows))
    lines += [f"image: {name}" for name in report.images]
    lines += [f"not finite when it was read: {name}" for name in broken_images(report.batch)]
    lines += [f"{name}: {value:.8g}" for name, value in trace.losses.items()]
    lines.append(_same(report.loss, trace.loss))
    lines.append(_first(trace))
    return lines


def _build(cfg: Config) -> nn.Module:
    settings = copy.deepcopy(cfg.model)
    if preprocessor := cfg.get("data_preprocessor"):  # mmengine's other place for it
        settings.setdefault("data_preprocessor", preprocessor)
    return MODELS.build(settings)


def _of_interest(model: nn.Module, rows: list[Row]) -> tuple[list[Row], int]:
    """Without those of a frozen teacher that are finite, and how many these are."""
    trained = {name for name, _ in model.named_modules()}
    shown = [row for row in rows if row.module in trained or row.share]
    return shown, len(rows) - len(shown)


def _table(rows: list[Row], left_out: int) -> list[str]:
    """One line for each tensor."""
    names = [f"{row.module or 'the model'}, {row.what}" for row in rows]
    width = max(map(len, names), default=0)
    head = f"{'tensor':{width}}  {'min':>11}  {'max':>11}  not finite"
    found = [
        f"{name:{width}}  {row.low:11.4g}  {row.high:11.4g}  {row.share:10.2%}"
        for name, row in zip(names, rows, strict=True)
    ]
    teacher = f"left out: {left_out} of the frozen teacher's tensors, which are finite"
    return [head, *found, *([teacher] if left_out else [])]


def _same(before: float | None, now: float) -> str:
    if before is None:
        return f"loss: {now!r}"
    # NaN differs from itself
    same = repr(before) == repr(now)
    return f"loss in the run: {before!r}, now: {now!r} ({'the same' if same else 'not the same'})"


def _first(trace: Trace) -> str:
    if trace.first is None:
        return "all outputs and gradients are finite"
    row = trace.first
    return f"first {row.kinds}: the {row.what} of {row.module or 'the model as a whole'}"
