"""What a run began with: plan, weights, commands, and what they changed of the recipe."""

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from milan_mm.report.axes import number
from milan_mm.report.curves import x_scale
from milan_mm.report.page import EMPTY, bullets, command, details, facts, join, paragraph, table
from milan_mm.report.run_results import changes
from milan_mm.report.work_dir import Part, WorkDir

_MANY_NAMES = 6


def plan_body(work_dir: WorkDir) -> Markup:
    """What the run printed before it started, and what its record says of data and schedule."""
    if not work_dir.trainings and not work_dir.record:
        return EMPTY  # a test trains nothing
    last = work_dir.trainings[-1] if work_dir.trainings else None
    lines = (last.facts["plan"] if last and last.facts else last.log.plan if last else []) or []
    record = work_dir.record or {}
    split, data = record.get("split") or {}, record.get("data") or {}
    parts = [
        f"{split[key]} {name}"
        for key, name in (
            ("batch_per_process", "images per process"),
            ("processes", "processes" if split.get("processes") != 1 else "process"),
            ("accumulation", "parts" if split.get("accumulation") != 1 else "part"),
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


def weights_body(work_dir: WorkDir) -> Markup:
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


def command_body(work_dir: WorkDir) -> Markup:
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


def changes_body(work_dir: WorkDir) -> Markup:
    found = changes(work_dir)
    if found is None:
        return EMPTY
    if not found:
        return paragraph("None: the recipe as it is.")
    batch = (work_dir.record or {}).get("total_batch")
    # --quick states none, and the plan shows the one that follows
    now = {"total_batch": f"not set; {batch} by the split in the plan"} if batch else {}
    rows = [
        [
            field := str(change.get("field")),
            _short(change.get("recipe")),
            _short(now.get(field) if change.get("now") is None else change["now"]),
        ]
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
