"""The page of a work directory: what was run, how far it came, what it reached, and from what."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from milan_mm.report.axes import duration, number
from milan_mm.report.confusion import confusion_body
from milan_mm.report.curves import curves_body, x_scale
from milan_mm.report.measures import validation_measure
from milan_mm.report.page import (
    EMPTY,
    Section,
    badge,
    bullets,
    command,
    details,
    facts,
    join,
    page,
    paragraph,
    table,
    tiles,
)
from milan_mm.report.pictures import pictures_body
from milan_mm.report.run_results import (
    best_of,
    changes,
    classes_body,
    main_metric,
    place,
    results_body,
)
from milan_mm.report.scalars import IMAGES
from milan_mm.report.work_dir import Part, WorkDir
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
_MANY_NAMES = 6


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
        Section("confusion", "Confusion", confusion_body(work_dir.path)),
        Section("pictures", "Pictures", pictures_body(work_dir.path)),
        Section("plan", "Plan", _plan_body(work_dir)),
        Section("weights", "Initial weights", _weights_body(work_dir)),
        Section("command", "Command", _command_body(work_dir)),
        Section("changes", "Changes to the recipe", _changes_body(work_dir)),
        Section("warnings", "Warnings", _warnings_body(work_dir)),
        Section("environment", "Environment", _environment_body(work_dir)),
    ]
    return page(work_dir.name, _head(work_dir), sections)


def _head(work_dir: WorkDir) -> Markup:
    commands = [(part.facts or {}).get("command", "") for part in work_dir.trainings]
    is_trial = any("--quick" in line.split() for line in commands)
    line = Markup("<p>{} {}{} in <code>{}</code></p>").format(
        badge(_state(work_dir), _BADGES[work_dir.state]),
        "trial (--quick) of a " if is_trial else "",
        _TASKS[work_dir.task],
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


def _time_left(work_dir: WorkDir) -> str:
    """Of a run that goes on, at its usual speed and without its validations."""
    speeds = work_dir.curves.train.get(IMAGES, {}).values()
    batch = (work_dir.record or {}).get("total_batch")
    if work_dir.state != "running" or not speeds or not batch or not work_dir.total:
        return ""
    images = (work_dir.total - work_dir.done) * batch
    return duration(timedelta(seconds=images / median(speeds)))


def _plan_body(work_dir: WorkDir) -> Markup:
    """What the run printed before it started, and what its record says of data and schedule."""
    last = work_dir.trainings[-1] if work_dir.trainings else None
    lines = (last.facts["plan"] if last and last.facts else last.log.plan if last else []) or []
    record = work_dir.record or {}
    split, data = record.get("split") or {}, record.get("data") or {}
    parts = [
        f"{split[key]} {name}"
        for key, name in (
            ("batch_per_process", "images per process"),
            ("processes", "process(es)"),
            ("accumulation", "step(s) of accumulation"),
        )
        if split.get(key)
    ]
    rows: dict[str, object] = {
        "total batch": record.get("total_batch") or work_dir.config.get("total_batch"),
        "split": " x ".join(parts),
        "seed": record.get("seed"),
    }
    for name, found in data.items():
        if isinstance(found, Mapping):
            rows[f"{name} images"] = (
                f"{found.get('count'):,} in {found.get('root') or 'the data set'}, "
                f"files {str(found.get('hash'))[:12]}"
                if isinstance(found.get("count"), int)
                else ""
            )
    if classes := record.get("classes"):
        shown = ", ".join(map(str, classes[:12]))
        more = f" and {len(classes) - 12} more" if len(classes) > 12 else ""
        rows["classes"] = f"{len(classes)}: {shown}{more}"
    said = bullets(str(line).removeprefix("plan: ") for line in lines)
    return join([said, facts(rows)])


def _weights_body(work_dir: WorkDir) -> Markup:
    """What `--weights` brought, from the load report."""
    report = work_dir.load_report
    if report is None:
        encoder = (work_dir.record or {}).get("encoder")
        if encoder:
            return facts({"file": encoder.get("source"), "sha256": encoder.get("sha256")})
        return EMPTY
    counts = report.get("counts")
    counts = counts if isinstance(counts, dict) else {}
    titles = dict(
        loaded="loaded",
        resized="resized",
        initialised="new, not in the file",
        dropped="in the file and not used by this model",
        left_out="other parts of the file",
    )
    encoder = (work_dir.record or {}).get("encoder") or {}
    rows = {
        "file": report.get("source"),
        "sha256": encoder.get("sha256"),
        "system": report.get("system"),
        "layout of its names": report.get("layout"),
    } | {title: counts.get(key) for key, title in titles.items()}
    parts = [facts(rows)]
    if assumed := report.get("assumed"):
        parts.append(paragraph("Assumed, since the file does not say so:"))
        parts.append(_named(assumed))
    for key, title in titles.items():
        content = report.get(key)
        if key != "loaded" and content:
            body = _named(content)
            amount = len(content) if isinstance(content, list | dict) else 0
            parts.append(
                details(f"{title}: {amount}", body)
                if amount > _MANY_NAMES
                else join([paragraph(f"{title}:"), body])
            )
    return join(parts)


def _named(content: Any) -> Markup:
    if isinstance(content, Mapping):
        return bullets(f"{name}: {why}" for name, why in content.items())
    return bullets(map(str, content if isinstance(content, list) else [content]))


def _command_body(work_dir: WorkDir) -> Markup:
    """The line that started each part; of earlier versions what the record repeats."""
    parts = []
    before = None
    for part in work_dir.trainings:
        line = (part.facts or {}).get("command")
        if line:
            if len(work_dir.trainings) > 1 or (part.processes or 1) > 1:
                parts.append(paragraph(_when(part, work_dir), note=True))
            if line == before:
                parts.append(paragraph("the same command"))
            else:
                parts.append(command(line))
            before = line
    options = (work_dir.record or {}).get("options") or {}
    if not parts and options:
        parts.append(paragraph("Options that a later command has to repeat:"))
        parts.append(facts({f"--{name.replace('_', '-')}": v for name, v in options.items()}))
    if not parts and work_dir.trainings:
        parts.append(
            paragraph("The command was not recorded: the run is of an earlier version.", note=True)
        )
    return join(parts)


def _when(part: Part, work_dir: WorkDir) -> str:
    label, size = x_scale(work_dir)
    start = f", from {label} {number(part.start / size, 6)} on" if part.start else ""
    processes = f", {part.processes} processes" if (part.processes or 1) > 1 else ""
    return f"{part.started:%Y-%m-%d %H:%M:%S}{start}{processes}"


def _changes_body(work_dir: WorkDir) -> Markup:
    found = changes(work_dir)
    if found is None:
        return EMPTY
    if not found:
        return paragraph("None: the recipe as it is.")
    rows = [
        [str(change.get("field")), _short(change.get("recipe")), _short(change.get("now"))]
        for change in found
    ]
    return join(
        [
            table(["field", "recipe", "this run"], rows, numbers=False),
            paragraph(
                "What belongs to the machine (paths, workers, devices) is left out.", note=True
            ),
        ]
    )


def _short(value: object) -> str:
    """A value of a config on one line; parts by their types."""
    if value is None:
        return "not set"
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return ", ".join(map(_short, value))
    if isinstance(value, Mapping) and "type" in value:
        inner = value.get("dataset")
        rest = f"({_short(inner)})" if isinstance(inner, Mapping) else ""
        rest = rest or "".join(
            f" {k}={v}" for k, v in value.items() if k != "type" and isinstance(v, int | float)
        )
        return f"{str(value['type']).rpartition('.')[2]}{rest}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


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
    rows: dict[str, object] = {
        name: environment.get(name) for name in _ENVIRONMENT if name in environment
    }
    if environment:
        rows["GPUs"] = "; ".join(f"{n}: {v}" for n, v in gpus.items()) or "none, trained on CPU"
    versions = (work_dir.record or {}).get("versions") or {}
    for name, version in versions.items():
        rows[name] = version
    return facts(rows)
