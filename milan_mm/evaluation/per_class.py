"""Numbers of each class beside the means of a test: AP, IoU, or precision and recall.

They are metrics like others, named 'METRIC[CLASS]', as in 'coco/bbox_mAP[person]' or 'IoU[wall]'.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner

from milan_mm.errors import UserError
from milan_mm.evaluation.confusion import FILE, ConfusionMatrix

_NAME = re.compile(r"(.+?)\[(.*)\]", re.DOTALL)


def report_per_class(runner: Runner) -> None:
    """Let the metrics of a test report each class.

    Where images or pixels have one label each, a file beside the log also says which classes are
    taken for which.

    Args:
        runner: Whose test is not over.

    Raises:
        UserError: When none of them can.
    """
    metrics = runner.test_evaluator.metrics
    scope = runner.cfg.get("default_scope")
    found = False
    for i, metric in enumerate(metrics):
        if scope == "mmdet":
            found |= _report_ap(metric)
        elif scope == "mmseg" and (other := _report_iou(metric)):
            metrics[i], found = other, True
    if scope == "mmpretrain":
        from milan_mm.evaluation.class_precision import ClassPrecision

        metrics.append(_alike(ClassPrecision(), metrics[0]))
        found = True
    if not found:
        kinds = ", ".join(type(metric).__name__ for metric in metrics)
        raise UserError(f"--classwise: {kinds} cannot report single classes: leave it out")
    if scope in ("mmseg", "mmpretrain"):
        metrics.append(_alike(ConfusionMatrix(Path(runner.log_dir, FILE)), metrics[0]))


def split_classes(
    metrics: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The means of a test, and its numbers by class and by metric."""
    means: dict[str, float] = {}
    classes: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if found := _NAME.fullmatch(name):
            classes.setdefault(found[2], {})[found[1]] = value
        else:
            means[name] = value
    return means, classes


def class_table(classes: Mapping[str, Mapping[str, float]]) -> str:
    """The numbers of each class as a text table; '-' where a class has none."""
    columns = list(dict.fromkeys(name for values in classes.values() for name in values))
    rows = [["class", *columns]]
    for name, values in classes.items():
        cells = [values.get(column, float("nan")) for column in columns]
        rows.append([name, *("-" if cell != cell else f"{cell:.4g}" for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = row
    numbers = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
    return "  ".join([f"{first:<{widths[0]}}", *numbers])


def _report_ap(metric: BaseMetric) -> bool:
    """mmdet's metric on COCO's measure, ours or another one."""
    name = "per_class" if hasattr(metric, "per_class") else "classwise"
    if not hasattr(metric, name):
        return False
    setattr(metric, name, True)
    return True


def _report_iou(metric: BaseMetric) -> BaseMetric | None:
    """mmseg's metric with the same settings."""
    from mmseg.evaluation import IoUMetric

    from milan_mm.evaluation.class_iou import ClassIoU

    if type(metric) is not IoUMetric or metric.format_only:
        return None
    settings = ("ignore_index", "nan_to_num", "beta", "output_dir", "collect_device", "prefix")
    own = {name: getattr(metric, name) for name in settings}
    return _alike(ClassIoU(iou_metrics=metric.metrics, **own), metric)


def _alike(metric: BaseMetric, other: BaseMetric) -> BaseMetric:
    """Of the same data set."""
    metric.dataset_meta = other.dataset_meta
    return metric
