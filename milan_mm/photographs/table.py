"""The study as Markdown: arms, steps between them, teachers, and what everything cost."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from milan_mm.photographs import frozen
from milan_mm.photographs.arms import ARMS, CAPTIONS, SHUFFLED, STEPS, VIEWS
from milan_mm.photographs.cells import CURVE, FINETUNED
from milan_mm.photographs.labelled import SHARES
from milan_mm.photographs.summary import Summary, best, difference, summaries

METRICS = (*frozen.METRICS, *(FINETUNED.format(share=share) for share in SHARES))
_TEACHER_METRICS = {
    "zero_shot_teacher_classes": "zero-shot, its own classes",
    "knn_teacher_classes": "k-NN, its own classes",
    "zero_shot_student_classes": "zero-shot, student's classes",
    "knn_student_classes": "k-NN, student's classes",
}
_TEACHER_TITLES = {
    CAPTIONS: "teacher with captions",
    SHUFFLED: "teacher with shuffled captions",
    VIEWS: "teacher of images alone",
}


def write_table(rows: Sequence[Mapping], settings: Mapping[str, Any]) -> str:
    """All tables.

    Args:
        rows: Of results.jsonl, of whatever is finished.
        settings: Of the study.
    """
    found = {metric: summaries(rows, metric) for metric in METRICS}
    parts = [
        _arms(rows, found),
        _steps(found),
        _curve(rows),
        _teachers(rows),
        _notes(rows, settings),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _arms(rows: Sequence[Mapping], found: Mapping[str, Mapping[str, Summary]]) -> str:
    students = {m: {a: s for a, s in by.items() if a in ARMS} for m, by in found.items()}
    leading = {metric: best(by) for metric, by in students.items()}
    lines = _head("encoder", *METRICS, "seeds", "processor seconds")
    for name, title in [(arm.name, arm.title) for arm in ARMS.values()] + [
        *_TEACHER_TITLES.items()
    ]:
        cells = [found[metric].get(name) for metric in METRICS]
        if not any(cells):
            continue
        shown = [
            "-" if cell is None else f"**{cell}**" if name in leading[metric] else str(cell)
            for metric, cell in zip(METRICS, cells, strict=True)
        ]
        seeds = max(len(cell.values) for cell in cells if cell)
        lines.append(_line(title, *shown, str(seeds), _seconds(rows, name)))
    return "\n".join(lines)


def _steps(found: Mapping[str, Mapping[str, Summary]]) -> str:
    lines = _head("from", "to", "what changes", *METRICS)
    for (before, after), change in STEPS.items():
        gains = [difference(found[m].get(before), found[m].get(after)) for m in METRICS]
        if set(gains) != {"not run"}:
            lines.append(_line(before, after, change, *gains))
    return "\n".join(lines) if len(lines) > 2 else ""


def _curve(rows: Sequence[Mapping]) -> str:
    curves = curves_of(rows)
    if not curves:
        return ""
    epochs = sorted({epoch for points in curves.values() for epoch in points})
    lines = _head("k-NN after epoch", *map(str, epochs))
    for name, points in curves.items():
        lines.append(
            _line(
                ARMS[name].title,
                *(str(Summary(tuple(points[e]))) if e in points else "-" for e in epochs),
            )
        )
    return "\n".join(lines)


def _teachers(rows: Sequence[Mapping]) -> str:
    lines = _head("teacher", *_TEACHER_METRICS.values(), "processor seconds")
    for name, title in _TEACHER_TITLES.items():
        own = {row["metric"]: row for row in rows if row["arm"] == name}
        if own.keys() & _TEACHER_METRICS.keys():
            values = [f"{own[m]['value']:.1f}" if m in own else "-" for m in _TEACHER_METRICS]
            lines.append(_line(title, *values, _seconds(rows, name)))
    return "\n".join(lines) if len(lines) > 2 else ""


def _notes(rows: Sequence[Mapping], settings: Mapping[str, Any]) -> str:
    num_train, num_val = settings["images"]
    shown = [row["value"] for row in rows if row["metric"] in METRICS]
    error = ""
    if shown:
        share = statistics.mean(shown) / 100
        points = 100 * math.sqrt(share * (1 - share) / num_val)
        error = f" The choice of validation images adds a standard error of about {points:.1f}."
    total = sum({_key(row): row.get("processor_seconds", 0.0) for row in rows}.values())
    total += sum({_key(row): row["seconds"] for row in rows if row["part"] == "frozen"}.values())
    return (
        f"Top-1 in % on {num_val:,} validation images; pretrained on {num_train:,} unlabelled "
        f"images for {settings['epochs']} epochs. Mean over seeds and half of its 95 % interval "
        f"(Student's t).{error} Bold: the best, and what its interval overlaps with; what overlaps "
        "is not ranked. Processor seconds: of one pretraining with its curve, or of one teacher, "
        f"on one core. All of it: {total / 60:.0f} minutes of processor time."
    )


def curves_of(rows: Sequence[Mapping]) -> dict[str, dict[int, list[float]]]:
    """k-NN of all seeds by epoch and arm, in the order of the arms."""
    found: dict[str, dict[int, list[float]]] = {}
    for name in ARMS:
        for row in rows:
            if row["arm"] == name and row["metric"] == CURVE:
                for epoch, value in row["curve"]:
                    found.setdefault(name, {}).setdefault(epoch, []).append(value)
    return found


def _seconds(rows: Sequence[Mapping], arm: str) -> str:
    """Mean processor time of a pretraining or of a teacher."""
    own = {
        _key(row): row["processor_seconds"]
        for row in rows
        if row["arm"] == arm
        and row["part"] in ("pretraining", "teacher")
        and "processor_seconds" in row
    }
    return f"{statistics.mean(own.values()):.0f}" if own else "-"


def _key(row: Mapping) -> tuple:
    return row["arm"], row["seed"], row["part"]


def _head(*titles: str) -> list[str]:
    return [_line(*titles), "|" + "---|" * len(titles)]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
