"""Names of what a run logs, as a reader wants them, and which belong into one chart."""

import re
from dataclasses import dataclass

from milan_mm.report.axes import number


@dataclass(frozen=True)
class Measure:
    """A logged number.

    Attributes:
        label: In tables and legends. group: Title of its chart.
        unit: Of the shown number. factor: From the logged number to the shown one.
        undefined: A logged value that stands for "nothing to measure".
        lower_is_better: Of two values.
    """

    label: str
    group: str
    unit: str = ""
    factor: float = 1.0
    undefined: float | None = None
    lower_is_better: bool = False

    def shown(self, value: float) -> str:
        """A value as text, without its unit."""
        if value == self.undefined:
            return "undefined"
        return f"{value * self.factor:.1f}" if self.unit == "%" else number(value * self.factor)


_KINDS = dict(bbox="box", segm="mask")
_SIZES = dict(s="small", m="medium", l="large")
_FREQUENCIES = dict(r="rare", c="common", f="frequent")
_DEPTH = dict(rmse="RMSE", rmse_log="RMSE of logarithms", abs_rel="abs rel", sq_rel="sq rel")
_DEPTH |= dict(log10="error of log10", silog="scale-invariant error")
_METRES = ("rmse", "sq_rel")
_SEG = dict(mIoU="mIoU", mAcc="mean accuracy", aAcc="pixel accuracy", IoU="IoU", Acc="accuracy")


def validation_measure(name: str) -> Measure:
    """What a metric of a validation or a test is."""
    if found := re.fullmatch(r"(?:coco/(bbox|segm)_mAP_?|lvis/(bbox|segm)_AP)(\w+)?", name):
        kind, part = _KINDS[found[1] or found[2]], found[3]
        if part in _SIZES:
            group = f"{kind.capitalize()} AP by size"
            return Measure(f"{kind} AP, {_SIZES[part]} objects", group, "%", 100, -1.0)
        if part in _FREQUENCIES:
            group = f"{kind.capitalize()} AP by frequency"
            return Measure(f"{kind} AP, {_FREQUENCIES[part]} categories", group, "%", 100, -1.0)
        return Measure(f"{kind} AP{part or ''}", f"{kind.capitalize()} AP", "%", 100, -1.0)
    if name in _SEG:
        return Measure(_SEG[name], "Segmentation", "%")
    if found := re.fullmatch(r"single-label/(precision|recall|f1-score)", name):
        return Measure(found[1], "Precision and recall", "%")
    if found := re.fullmatch(r"accuracy/top-?(\d+)", name):
        return Measure(f"top-{found[1]} accuracy", "Accuracy", "%")
    if found := re.fullmatch(r"knn/top-?(\d+)", name):
        return Measure(f"k-NN top-{found[1]}", "k-NN accuracy", "%")
    if name in _DEPTH:
        unit = "m" if name in _METRES else ""
        group = "Depth error in metres" if unit else "Relative depth error"
        return Measure(_DEPTH[name], group, unit, lower_is_better=True)
    if re.fullmatch(r"d[123]", name):
        return Measure(name, "Depths within a factor of 1.25, its square and cube", "%", 100)
    is_error = "loss" in name or "error" in name
    return Measure(name, name, lower_is_better=is_error)


def is_loss(name: str) -> bool:
    """Whether a number of the training is a term of the loss."""
    return "loss" in name


def training_measure(name: str) -> Measure:
    """What a number of the training is; terms of the loss and the loss itself aside."""
    known = dict(
        base_lr=Measure("of the optimizer", "Learning rate"),
        lr=Measure("of the first parameter group, after layer decay", "Learning rate"),
        grad_norm=Measure("gradient norm", "Gradient norm"),
        images_per_second=Measure("images/s", "Images per second", "images/s"),
        waiting=Measure("waiting for images", "Share of waiting for images", "%", 100),
        memory=Measure("memory", "GPU memory", "MiB"),
    )
    if name in known:
        return known[name]
    if re.search(r"(^|\.)acc(_|$|uracy)", name):
        return Measure(name, "Accuracy in training", "%")
    return Measure(name, name)
