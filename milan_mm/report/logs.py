"""What a log says beyond the scalars: times, the machine, warnings, and tables of classes."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

_LINE = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - \w+ - ([A-Z]+) - (.*)")
_FACT = re.compile(r" {4}([^:]{1,60}): (.+)")
_PROGRESS = re.compile(r"(Epoch|Iter)\(train\) +(?:\[(\d+)\])?\[ *(\d+)/ *(\d+)\]")
_SAVED = re.compile(r"Saving checkpoint at (\d+) (iterations|epochs)")
_RESUMED = re.compile(r"resumed epoch: \d+, iter: (\d+)")
_LOADED = re.compile(r"Load checkpoint from (.+)")
# About parts of libraries, and of no use to whoever trains.
_OF_LIBRARIES = ("deprecated", "The prefix is not set in metric class")
_CLASS_HEADS = ("class", "category")


@dataclass
class ClassTable:
    """Numbers by class, as mmseg and mmdet print them.

    Attributes:
        columns: Names of the numbers. rows: Name of the class and its numbers, as text.
    """

    columns: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass
class Log:
    """A log file of mmengine.

    Attributes:
        first, last: When its first and last line were written.
        environment: Facts about machine and software, by name.
        plan: Lines about what the run would do.
        warnings: Lines and how often each came.
        num_deprecations: Warnings that concern libraries only.
        length: Iterations of the run, or of an epoch, as its progress says.
        by_epoch: Whether `length` is that of an epoch; None without a line of progress.
        saved, saved_epochs: Iterations or epochs at the last checkpoint; 0 without one.
        resumed: Iteration from which it went on; None where it began.
        checkpoint: The last file that was loaded whole, as a test does.
        classes: The last table of each kind, by its columns.
    """

    first: datetime | None = None
    last: datetime | None = None
    environment: dict[str, str] = field(default_factory=dict)
    plan: list[str] = field(default_factory=list)
    warnings: dict[str, int] = field(default_factory=dict)
    num_deprecations: int = 0
    length: int | None = None
    by_epoch: bool | None = None
    saved: int = 0
    saved_epochs: int = 0
    resumed: int | None = None
    checkpoint: str = ""
    classes: dict[tuple[str, ...], ClassTable] = field(default_factory=dict)


def read_log(path: str | Path) -> Log:
    """Read a log; one that is missing or cut off says less."""
    log = Log()
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return log
    in_environment = False
    for line in lines:
        found = _LINE.match(line)
        if not found:
            in_environment |= line.startswith("System environment:")
            if in_environment and (fact := _FACT.match(line)):
                log.environment.setdefault(fact[1], fact[2])
            continue
        in_environment = False
        time = datetime.strptime(found[1], "%Y/%m/%d %H:%M:%S")
        log.first, log.last = log.first or time, time
        _note(log, found[2], found[3])
    for table in _class_tables(lines):
        log.classes[tuple(table.columns)] = table
    return log


def _note(log: Log, level: str, message: str) -> None:
    if level in ("WARNING", "ERROR", "CRITICAL"):
        if any(part in message for part in _OF_LIBRARIES):
            log.num_deprecations += 1
        elif message:
            log.warnings[message] = log.warnings.get(message, 0) + 1
    elif message.startswith("plan: "):
        log.plan.append(message)
    elif progress := _PROGRESS.match(message):
        log.by_epoch, log.length = progress[1] == "Epoch", int(progress[4])
    elif saved := _SAVED.match(message):
        if saved[2] == "epochs":
            log.saved_epochs = int(saved[1])
        else:
            log.saved = int(saved[1])
    elif resumed := _RESUMED.match(message):
        log.resumed = int(resumed[1])
    elif loaded := _LOADED.fullmatch(message):
        log.checkpoint = loaded[1]


def _class_tables(lines: Iterable[str]) -> Iterator[ClassTable]:
    """Tables in lines of `+---+` and `| a | b |` whose first column names classes."""
    table: ClassTable | None = None
    for line in [*lines, ""]:
        if line.startswith("|") and line.endswith("|"):
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            if table is None and cells[0].lower() in _CLASS_HEADS:
                table = ClassTable(cells[1:], [])
            elif table is not None and len(cells) == 1 + len(table.columns):
                table.rows.append((cells[0], cells[1:]))
        elif not line.startswith("+") and table is not None:
            if table.rows:
                yield table
            table = None
