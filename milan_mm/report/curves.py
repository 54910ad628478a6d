"""The charts of a work directory: loss and its terms, rates, speed, and validations."""

import math
from collections.abc import Callable, Mapping

from markupsafe import Markup

from milan_mm.report.chart import STYLES, Chart, Series, line_chart
from milan_mm.report.measures import Measure, is_loss, training_measure, validation_measure
from milan_mm.report.page import EMPTY, join, paragraph
from milan_mm.report.scalars import Points
from milan_mm.report.work_dir import WorkDir

_FROM_ZERO = ("Images per second", "Share of waiting for images", "Learning rate", "GPU memory")
_LOG = ("Loss", "Loss terms", "Gradient norm")
_FIRST = ("Loss", "Loss terms", "Learning rate", "Gradient norm", "Accuracy in training")
_LAST = ("Images per second", "Share of waiting for images", "GPU memory")


def curves_body(work_dir: WorkDir) -> Markup:
    """All charts; nothing where nothing was logged."""
    curves = work_dir.curves
    measured = {name: y for name, y in curves.val.items() if not name.endswith("/seconds")}
    validation = _grouped(measured, validation_measure, smallest=2)
    training = _grouped(curves.train, _training_measure, smallest=1)
    order = {name: i for i, name in enumerate(_FIRST)} | dict.fromkeys(_LAST, 99)
    names = sorted(training, key=lambda name: order.get(name, 50))
    groups = {n: training[n] for n in names[:1]} | validation | {n: training[n] for n in names[1:]}
    charts = [
        line_chart(chart)
        for name, group in groups.items()
        for chart in _charts(work_dir, name, group)
    ]
    if not charts:
        return EMPTY
    notes = []
    if resumed := len(curves.resumed):
        times = "once" if resumed == 1 else f"{resumed} times"
        notes.append(
            f"Dotted vertical lines: the run was resumed there ({times}). What was done again "
            "after a checkpoint is drawn once, as it was done last."
        )
    if max(map(len, curves.train.values()), default=0) > STYLES * 20:
        notes.append("A band shows the smallest and largest value where points share a column.")
    if charts:
        notes.append("Point at a curve to read its values.")
    return join(['<div class="charts">', *charts, "</div>", paragraph(" ".join(notes), note=True)])


def x_scale(work_dir: WorkDir) -> tuple[str, float]:
    """Label of the axis of time, and updates per unit."""
    if work_dir.by_epoch and work_dir.per_epoch:
        return "epoch", float(work_dir.per_epoch)
    return work_dir.unit, 1.0


def _training_measure(name: str) -> Measure:
    if is_loss(name):
        return Measure(name, "Loss" if name == "loss" else "Loss terms")
    return training_measure(name)


def _grouped(
    points: Mapping[str, Points], measure_of: Callable[[str], Measure], smallest: int
) -> dict[str, list[tuple[Measure, Points]]]:
    groups: dict[str, list[tuple[Measure, Points]]] = {}
    for name, values in points.items():
        measure = measure_of(name)
        kept = {x: y for x, y in values.items() if y != measure.undefined}
        if len(kept) >= smallest:
            groups.setdefault(measure.group, []).append((measure, kept))
    rates = groups.get("Learning rate", [])
    if len(rates) == 2 and rates[0][1] == rates[1][1]:
        del rates[1]  # one rate for all parameters
    if [points for _, points in groups.get("Loss terms", [])] == [
        points for _, points in groups.get("Loss", [])
    ]:
        groups.pop("Loss terms", None)  # the loss has a single term
    return groups


def _charts(work_dir: WorkDir, name: str, group: list[tuple[Measure, Points]]) -> list[Chart]:
    label, size = x_scale(work_dir)
    end = work_dir.total / size if work_dir.total else None
    marks = [x / size for x in work_dir.curves.resumed]
    series = []
    for measure, points in group:
        series.append(
            Series(
                measure.label,
                [x / size for x in points],
                [y * measure.factor for y in points.values()],
            )
        )
    number = math.ceil(len(series) / STYLES)
    return [
        Chart(
            name + (f" ({i + 1} of {number})" if number > 1 else ""),
            label,
            group[0][0].unit,
            series[i * STYLES : (i + 1) * STYLES],
            marks,
            log=name in _LOG,
            x_end=end,
            zero=name in _FROM_ZERO,
        )
        for i in range(number)
    ]
