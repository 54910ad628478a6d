"""The page of a work directory: what was run, how far it came, what it reached, and from what."""

from datetime import timedelta
from pathlib import Path
from statistics import median

from markupsafe import Markup

from milan_mm.report.axes import duration, number
from milan_mm.report.confusion import confusion_body, newest_confusion
from milan_mm.report.curves import curves_body, x_scale
from milan_mm.report.measures import validation_measure
from milan_mm.report.page import (
    EMPTY,
    Section,
    badge,
    bullets,
    facts,
    join,
    page,
    paragraph,
    tiles,
)
from milan_mm.report.pictures import pictures_body
from milan_mm.report.run_results import (
    best_of,
    classes_body,
    main_metric,
    place,
    results_body,
    said_of,
)
from milan_mm.report.run_start import changes_body, command_body, plan_body, weights_body
from milan_mm.report.scalars import IMAGES
from milan_mm.report.work_dir import WorkDir
from milan_mm.text import count

_TASKS = dict(
    pretrain="pretraining",
    cls="classification",
    det="detection",
    seg="segmentation",
    other="training",
)
_BADGES = dict(finished="good", running="live", stopped="warn", tested="good", saved="warn")
_ENVIRONMENT = ("sys.platform", "Python", "PyTorch", "TorchVision", "OpenCV", "MMEngine")
# By their names in a record; the log's versions of these also say for which CUDA.
_SAME = {"torch": "PyTorch", "torchvision": "TorchVision"}


def run_page(folder: str | Path) -> str:
    """The page of a work directory.

    Raises:
        MissingFileError, UserError: See `WorkDir.read`.
    """
    work_dir = WorkDir.read(folder)
    sections = [
        Section("results", "Results", results_body(work_dir)),
        Section("curves", "Curves", curves_body(work_dir)),
        Section("classes", "By class", classes_body(work_dir)),
        Section("confusion", "Confusion", _confusion_body(work_dir)),
        Section("pictures", "Pictures", pictures_body(work_dir.path)),
        Section("plan", "Plan", plan_body(work_dir)),
        Section("weights", "Initial weights", weights_body(work_dir)),
        Section("command", "Command", command_body(work_dir)),
        Section("changes", "Changes to the recipe", changes_body(work_dir)),
        Section("warnings", "Warnings", _warnings_body(work_dir)),
        Section("environment", "Environment", _environment_body(work_dir)),
    ]
    return page(work_dir.name, _head(work_dir), sections)


def _head(work_dir: WorkDir) -> Markup:
    commands = [(part.facts or {}).get("command", "") for part in work_dir.trainings]
    is_trial = any("--quick" in line.split() for line in commands)
    line = Markup("<p>{} {}{} in <code>{}</code></p>").format(
        badge(_state(work_dir), _BADGES[work_dir.state]),
        _TASKS[work_dir.task],
        ", a trial (--quick)," if is_trial else "",
        work_dir.path,
    )
    return join([line, tiles(_tiles(work_dir))])


def _state(work_dir: WorkDir) -> str:
    if work_dir.state == "saved":
        return "a checkpoint without a log"
    if work_dir.state in ("running", "stopped"):
        return f"{work_dir.state} at {_progress(work_dir)}"
    return work_dir.state


def _progress(work_dir: WorkDir) -> str:
    label, size = x_scale(work_dir)
    text = f"{label} {number(work_dir.done / size, 6)}"
    return text + (f" of {number(work_dir.total / size, 6)}" if work_dir.total else "")


def _tiles(work_dir: WorkDir) -> list[tuple[str, str, str]]:
    found = []
    label, size = x_scale(work_dir)
    if work_dir.trainings:
        total = f"of {number(work_dir.total / size, 6)}" if work_dir.total else ""
        if left := _time_left(work_dir):
            total += f", about {left} left"
        found.append((f"{label}s", number(work_dir.done / size, 6), total))
    if name := main_metric(work_dir):
        measure, best = validation_measure(name), best_of(work_dir, name)
        if best:
            unit = f" {measure.unit}" if measure.unit else ""
            at = place(work_dir, best[0])
            found.append((f"best {measure.label}", measure.shown(best[1]) + unit, at))
    if losses := list(work_dir.curves.train.get("loss", {}).values()):
        found.append(("loss", number(losses[-1]), f"from {number(losses[0])}"))
    if speeds := list(work_dir.curves.train.get(IMAGES, {}).values()):
        found.append(("images per second", number(median(speeds), 3), "median"))
    if work_dir.training_time:
        first = work_dir.trainings[0]
        starts = len(work_dir.trainings)
        note = f"since {first.started:%Y-%m-%d %H:%M}"
        note += f", in {starts} parts" if starts > 1 else ""
        found.append(("training time", duration(work_dir.training_time), note))
    return found


def _confusion_body(work_dir: WorkDir) -> Markup:
    """Of the run's own last test that has a matrix, or else the newest one."""
    own = [path for t in reversed(work_dir.own_tests) if (path := newest_confusion(t.folder))]
    path = own[0] if own else newest_confusion(work_dir.path)
    test = next((t for t in work_dir.tests if path and t.folder in path.parents), None)
    return confusion_body(path, said_of(work_dir, test) if test else "")


def _time_left(work_dir: WorkDir) -> str:
    """Of a run that goes on, at its usual speed and without its validations."""
    speeds = work_dir.curves.train.get(IMAGES, {}).values()
    batch = (work_dir.record or {}).get("total_batch")
    if work_dir.state != "running" or not speeds or not batch or not work_dir.total:
        return ""
    images = (work_dir.total - work_dir.done) * batch
    return duration(timedelta(seconds=images / median(speeds)))


def _warnings_body(work_dir: WorkDir) -> Markup:
    found: dict[str, int] = {}
    left_out = 0
    for part in [*work_dir.trainings, *work_dir.tests]:
        left_out += part.log.num_deprecations
        for text, times in part.log.warnings.items():
            found[text] = found.get(text, 0) + times
    if not found:
        return EMPTY
    lines = [text + (f" ({times} times)" if times > 1 else "") for text, times in found.items()]
    note = (
        f"{count(left_out, 'message')} about old parts of libraries left out." if left_out else ""
    )
    return join([bullets(lines), paragraph(note, note=True) if note else EMPTY])


def _environment_body(work_dir: WorkDir) -> Markup:
    logs = [part.log for part in [*work_dir.trainings, *work_dir.tests]]
    environment = next((log.environment for log in reversed(logs) if log.environment), {})
    gpus = {name: value for name, value in environment.items() if name.startswith("GPU ")}
    gpus.pop("GPU number", None)
    versions = (work_dir.record or {}).get("versions") or {}
    rows: dict[str, object] = {
        name: environment[name] for name in _ENVIRONMENT if name in environment
    }
    if any(name.endswith("mmengine") for name in versions):
        rows.pop("MMEngine", None)
    if environment:
        rows["GPUs"] = "; ".join(f"{n}: {v}" for n, v in gpus.items()) or "none, on CPU"
    for name, version in versions.items():
        if _SAME.get(name) not in rows:
            rows[name] = version
    return facts(rows)
