"""What a run reached: its metrics beside the paper's, and numbers for each class."""

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from milan_mm.evaluation.published import Published, published, source
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.evaluation.tasks import PATCH_SIZE, TASKS, trained
from milan_mm.report.axes import number
from milan_mm.report.curves import x_scale
from milan_mm.report.logs import ClassTable
from milan_mm.report.measures import Measure, validation_measure
from milan_mm.report.page import EMPTY, Cell, Row, beside, bullets, details, join, paragraph, table
from milan_mm.report.parts import Part
from milan_mm.report.work_dir import WorkDir
from milan_mm.text import count

_SIZES = ("base", "large")
_LETTERS = dict(base="B", large="L")
_MANY = 40  # classes that are shown without a click
_TESTS = 5  # the last ones
_BY_CLASS = re.compile(r"(.+?)\[(.*)\]", re.DOTALL)  # of tools/test.py --classwise


def results_body(work_dir: WorkDir) -> Markup:
    """Last and best metrics of validations, tests, and the paper's numbers."""
    return beside([_validations(work_dir), _tests(work_dir), _beside_paper(work_dir)])


def best_of(work_dir: WorkDir, name: str) -> tuple[float, float] | None:
    """Update and value of a metric's best validation; None without one."""
    measure = validation_measure(name)
    points = work_dir.curves.val.get(name, {})
    known = {x: y for x, y in points.items() if y != measure.undefined}
    if not known:
        return None
    sign = -1 if measure.lower_is_better else 1
    return max(known.items(), key=lambda point: (sign * point[1], -point[0]))


def main_metric(work_dir: WorkDir) -> str | None:
    """The metric that a run is judged by, of those that it logged."""
    names = ("coco/bbox_mAP", "lvis/bbox_AP", "mIoU", "rmse", "accuracy/top1", "knn/top1")
    found = [name for name in names if name in work_dir.curves.val]
    return next(iter([*found, *work_dir.curves.val]), None)


def place(work_dir: WorkDir, update: float) -> str:
    """A point of a run in words, e.g. 'epoch 12'."""
    if not update:
        return "before the training"  # as its log says of k-NN
    label, size = x_scale(work_dir)
    return f"{label} {number(update / size, 6)}"


def _validations(work_dir: WorkDir) -> Markup:
    main = main_metric(work_dir)
    names, note = _with_something_to_measure(
        {name: list(points.values()) for name, points in work_dir.curves.val.items()}
    )
    rows: list[tuple[str, list[tuple[str, float | None]]]] = []
    for name in sorted(names, key=lambda name: name != main):
        if name.endswith("/seconds"):
            continue
        measure = validation_measure(name)
        last_at, last = list(work_dir.curves.val[name].items())[-1]
        best = best_of(work_dir, name)
        shown = (measure.shown(best[1]), best[0]) if best else ("undefined", None)
        rows.append((_with_unit(measure), [(measure.shown(last), last_at), shown]))
    if not rows:
        return EMPTY
    times = max(len(points) for points in work_dir.curves.val.values())
    titles = ["value"] if times == 1 else ["last", "best"]
    columns = []
    for i, title in enumerate(titles):  # a place that all values share stands in the title
        places = {at for _, cells in rows if (at := cells[i][1]) is not None}
        shared = len(places) == 1
        title += f", {place(work_dir, *places)}" if shared else ""
        cells = [
            Cell(value if shared or at is None else _with_place(work_dir, value, at))
            for value, at in (cells[i] for _, cells in rows)
        ]
        columns.append((title, cells))
    head = ["validation" if times == 1 else f"{times} validations", *(t for t, _ in columns)]
    lines = zip((label for label, _ in rows), *(cells for _, cells in columns), strict=True)
    return join([table(head, lines), paragraph(note, note=True) if note else EMPTY])


def _with_unit(measure: Measure) -> str:
    return measure.label + (f", {measure.unit}" if measure.unit else "")


def _with_something_to_measure(
    values: Mapping[str, Sequence[float]],
) -> tuple[list[str], str]:
    """Metrics without those of object sizes that do not occur, and a line about these."""
    measures = {name: validation_measure(name) for name in values}
    absent = {
        name: measures[name].label
        for name, found in values.items()
        if measures[name].group.endswith("by size")
        and all(value == measures[name].undefined for value in found)
    }
    sizes = dict.fromkeys(label.partition(", ")[2] for label in absent.values())
    note = f"Left out, since the data have none: {', '.join(sizes)}." if sizes else ""
    return [name for name in values if name not in absent], note


def _with_place(work_dir: WorkDir, value: str, update: float) -> Markup:
    return Markup('{}<span class="paper">{}</span>').format(value, place(work_dir, update))


def _tests(work_dir: WorkDir) -> Markup:
    """Those of the run's own checkpoints, and apart from them those of others."""
    others = [test for test in work_dir.tests if test not in work_dir.own_tests]
    return join(
        [
            _test_table(work_dir.own_tests[-_TESTS:], "Tests (tools/test.py)"),
            _test_table(others[-_TESTS:], "Tests of checkpoints that this run did not write"),
        ]
    )


def _test_table(tests: Sequence[Part], caption: str) -> Markup:
    names = dict.fromkeys(name for test in tests for name in test.metrics)
    shown, note = _with_something_to_measure(
        {
            name: [test.metrics[name] for test in tests if name in test.metrics]
            for name in names
            if not _BY_CLASS.fullmatch(name)
        }
    )
    rows = [
        [_with_unit(measure)]
        + [_shown(measure, test.metrics[name]) if name in test.metrics else "" for test in tests]
        for name, measure in zip(shown, map(validation_measure, shown), strict=True)
    ]
    if not rows:
        return EMPTY
    times = [f"{test.started:%Y-%m-%d %H:%M}" for test in tests]
    lines = [f"{time}: {test.checkpoint_name}" for time, test in zip(times, tests, strict=True)]
    notes = [paragraph(note, note=True)] if note else []
    return join([table(["", *times], rows, caption=caption), bullets(lines), *notes])


def _beside_paper(work_dir: WorkDir) -> Markup:
    """The numbers of MILAN's paper for this recipe; nothing where it has none."""
    found = _paper_recipe(work_dir.name)
    if found is None:
        return EMPTY
    task, arch, img_size = found
    numbers = [
        n
        for n in published()
        if (n.task, n.arch) == (task, arch) and (task != "finetune" or n.img_size == img_size)
    ]
    if not numbers:
        return EMPTY
    metrics = list(dict.fromkeys(n.metric for n in numbers))
    own = _own_numbers(work_dir, task)
    rows: list[Row] = [
        Row(
            [Cell("this run"), *(Cell(own.get(metric, "not measured")) for metric in metrics)],
            "own",
        )
    ]
    for method in dict.fromkeys(n.method for n in numbers):
        rows.append(Row([method, *(_value(numbers, method, metric) for metric in metrics)]))
    notes = [f"Published numbers are those of {source()}, not measured here."]
    if reasons := _other_setting(work_dir, task):
        notes.append(f"This run is not of their setting: {'; '.join(reasons)}.")
    return join(
        [
            table([f"{arch}, in %", *metrics], rows, caption="Beside the paper's numbers"),
            paragraph(" ".join(notes), note=True),
        ]
    )


def _paper_recipe(name: str) -> tuple[str, str, int] | None:
    """Task, architecture and image size of a recipe of the paper's tables."""
    for task in trained():
        for size in _SIZES:
            recipe = recipe_name(task, size).rpartition("/")[2]
            for suffix, img_size in (("", 224), ("-384x384", 384)):
                if name == recipe + suffix:
                    return task, f"ViT-{_LETTERS[size]}/{PATCH_SIZE}", img_size
    return None


def _own_numbers(work_dir: WorkDir, task: str) -> dict[str, str]:
    """The last measured value of each metric of the tables."""
    found = {}
    for metric in TASKS[task].metrics:
        key = metric.key
        points = work_dir.curves.val.get(key)
        tested = [test.metrics[key] for test in work_dir.own_tests if key in test.metrics]
        value = tested[-1] if tested else list(points.values())[-1] if points else None
        if value is not None:
            found[metric.name] = _shown(validation_measure(key), value)
    return found


def _value(numbers: Sequence[Published], method: str, metric: str) -> str:
    for one in numbers:
        if (one.method, one.metric) == (method, metric):
            return f"{one.value:.1f}"
    return "none"


def _other_setting(work_dir: WorkDir, task: str) -> list[str]:
    """Why a run cannot be compared with the paper's."""
    reasons = []
    changed = changes(work_dir)
    if changed is None:
        reasons.append("it is of an earlier version, which did not record its settings")
    elif changed:
        reasons.append(f"{count(len(changed), 'setting')} of the recipe changed, see below")
    data = (work_dir.record or {}).get("data") or {}
    train, val = (data.get(split, {}).get("count") for split in ("train", "val"))
    least, exact = TASKS[task].whole or (0, None)
    if (train is not None and train < least) or (None not in (val, exact) and val != exact):
        reasons.append(f"it has {train:,} training and {val or 0:,} validation images")
    if work_dir.state != "finished":
        reasons.append("it has not finished")
    return reasons


def changes(work_dir: WorkDir) -> list[dict] | None:
    """What the last training changed of its recipe; None where nothing tells."""
    return next((p.facts["changes"] for p in reversed(work_dir.trainings) if p.facts), None)


def classes_body(work_dir: WorkDir) -> Markup:
    """The last numbers of each class: of a test with --classwise, or as the log has them."""
    bodies = []
    others = [test for test in work_dir.tests if test not in work_dir.own_tests]
    for test in [*reversed(work_dir.own_tests), *reversed(others)]:
        if by_class := _by_class(test.metrics):
            columns = list(dict.fromkeys(name for values in by_class.values() for name in values))
            measures = [validation_measure(name) for name in columns]
            rows = [
                [name, *(_shown(m, values.get(c)) for m, c in zip(measures, columns, strict=True))]
                for name, values in by_class.items()
            ]
            heads = list(map(_with_unit, measures))
            bodies.append(_class_table(heads, rows, said_of(work_dir, test)))
            break
    found: dict[tuple[str, ...], ClassTable] = {}
    for part in [] if bodies else [*work_dir.trainings, *work_dir.own_tests]:
        found |= part.log.classes
    for printed in found.values():
        kind = "Last validation" if work_dir.trainings else "Last test"
        rows = [[name, *numbers] for name, numbers in printed.rows]
        bodies.append(_class_table(printed.columns, rows, f"{kind}, as the log has it"))
    return beside(bodies)


def said_of(work_dir: WorkDir, test: Part) -> str:
    """When a test was made, of what, and whether that is another run's."""
    other = "" if test in work_dir.own_tests else ", which this run did not write"
    return f"Test of {test.started:%Y-%m-%d %H:%M}: {test.checkpoint_name}{other}"


def _by_class(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Numbers by class and by metric."""
    classes: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if found := _BY_CLASS.fullmatch(name):
            classes.setdefault(found[2], {})[found[1]] = value
    return classes


def _shown(measure: Measure, value: float | None) -> str:
    return "undefined" if value is None or value != value else measure.shown(value)


def _class_table(columns: Sequence[str], rows: list[list[str]], caption: str) -> Markup:
    body = table(["class", *columns], rows, caption=caption)
    return details(f"{caption}: {len(rows)} classes", body) if len(rows) > _MANY else body
