"""The results file: one JSON object per line, appended whole.

A row of `tools/evaluate.py`, which `tools/report.py` turns into tables, has these keys:

  task            a name of milan_mm/evaluation/tasks.py
  metric          what was measured, one of the task's
  value           the number in the metric's unit, mostly %, or null where it is undefined
  method          the system that made the encoder, e.g. 'MAE'
  weights         name of the weights file; weights_sha256: of its content, 64 hexadecimal digits
  config          name of the recipe; config_hash: of its content
  protocol        'paper', 'own' (another length or rate than the recipe's) or 'short'
  protocol_hash   equal for runs that may be compared, see `milan_mm/evaluation/fingerprint.py`
  total_batch     images per optimizer step, or null where nothing was trained
  precision       'bfloat16' or 'float32'
  seed            of the run
  packages        version by name
  data            name of the data set: 'ImageNet', 'COCO', 'ADE20K' or that of a user's own folder
  data_counts     images by split
  data_hash       by split, of names and sizes of the files or of the annotation file; rows of
                  version 0.1 have none
  commit          git commit of this package with '-dirty' when files were changed, or null
  time            when the row was written, in ISO 8601
  seconds         that the run took
  command         line that ran it; rows of version 0.1 have none
  interval        [low, high] of 95 % in the unit of value, bootstrapped over the test images; only
                  where each image has an outcome of its own
  draws           the values of several draws of training images, of which value is the mean
  chosen          hyperparameters by name, chosen on a part of the training images
  checksum        of all other keys, see row_checksum.py; rows of version 0.1 have none

The demo, the ablation and tools/knn.py write rows with other facts, for their own tables; task,
metric, value and seconds are the same in all of them.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.row_checksum import KEY, line_of, take_checksum
from milan_mm.evaluation.tasks import DATA_NAMES, TASKS, metric_of, metrics_of
from milan_mm.text import count

PROTOCOLS = ("paper", "own", "short")
# Ends a line that a killed writer left unfinished; no JSON value ends like this.
TORN = b" <- cut off"
STALE_SECONDS = 30.0  # an append takes milliseconds, so an older lock file is of a killed writer
_NUMBER, _TEXT = (int, float), (str,)
_TYPES: dict[str, tuple[type, ...]] = dict(
    task=_TEXT,
    metric=_TEXT,
    value=(*_NUMBER, type(None)),
    method=_TEXT,
    weights=_TEXT,
    weights_sha256=_TEXT,
    config=_TEXT,
    config_hash=_TEXT,
    protocol=_TEXT,
    protocol_hash=_TEXT,
    total_batch=(int, type(None)),
    precision=_TEXT,
    seed=(int,),
    packages=(dict,),
    data=_TEXT,
    data_counts=(dict,),
    commit=(str, type(None)),
    time=_TEXT,
    seconds=_NUMBER,
)
# Not in rows of earlier versions.
_LATER: dict[str, tuple[type, ...]] = dict(
    data_hash=(dict,), command=_TEXT, interval=(list,), draws=(list,), chosen=(dict,)
)
_OTHER_TABLES = dict(
    pretrain="tools/demo.py",
    det="tools/demo.py",
    seg="tools/demo.py",
    ablation="tools/ablation.py",
)


def is_same(row: Mapping, identity: Mapping[str, object]) -> bool:
    """Whether a row has this identity.

    A row of version 0.1 does not say which photos it was measured on: it counts for a published
    data set, whose name says it, and not for a folder, whose name many have.
    """
    known = {
        key: value
        for key, value in identity.items()
        if key in row or key not in _LATER or row.get("data") not in DATA_NAMES
    }
    return all(row.get(key) == value for key, value in known.items())


def make_rows(facts: Mapping[str, object], values: Mapping[str, float | None]) -> list[dict]:
    """The rows of one run: a row for each metric, all with the same facts.

    Args:
        facts: By key.
        values: By metric.
    """
    return [dict(metric=metric, value=value, **facts) for metric, value in values.items()]


def append_rows(path: str | Path, rows: Iterable[dict]) -> None:
    """Append rows to a JSON-lines file in one write, whole or not at all.

    Safe with many writers, on one machine and on network file systems. A line that a killed writer
    left unfinished is marked, so that `read_rows` can leave it out, and costs no other row.

    Raises:
        OSError: When the disk is full; the file is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(line_of(row) + "\n" for row in rows).encode()
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        with _locked(file, path):
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                text = _ending(os.pread(file, size, 0)) + text
            written = os.write(file, text)
            if written < len(text):
                os.ftruncate(file, size)
                raise OSError(errno.ENOSPC, f"only {written} of {len(text)} bytes could be written")
            os.fsync(file)
    finally:
        os.close(file)


def _ending(content: bytes) -> bytes:
    """What completes the last line of a file: an editor may have left out just the line end."""
    try:
        json.loads(content.rpartition(b"\n")[2])
    except (ValueError, RecursionError):
        return TORN + b"\n"
    return b"\n"


def read_rows(path: str | Path) -> list[dict]:
    """All rows of a results file, without their checksums; an absent file has none.

    Raises:
        UserError: Naming the line that is not a JSON object, or that was changed.
    """
    return _read(path).rows


def merge(paths: Iterable[str | Path]) -> list[dict]:
    """The rows of several files, each once: a file may have been copied and continued.

    Raises:
        UserError: See `read_rows`.
    """
    rows = {line_of(row): row for path in paths for row in read_rows(path)}
    return list(rows.values())


def append_new(path: str | Path, rows: Iterable[dict]) -> int:
    """Append the rows that a file does not have; returns their number."""
    known = {line_of(row) for row in read_rows(path)}
    new = [row for row in rows if line_of(row) not in known]
    if new:
        append_rows(path, new)
    return len(new)


def remarks_on(path: str | Path) -> list[str]:
    """What a reader of a results file should know: lines for the user, none for most files.

    Raises:
        UserError: See `read_rows`.
    """
    found, remarks = _read(path), []
    if found.is_cut:
        remarks.append(
            f"{path}: its last line has no end and was left out: its writer was killed, or writes "
            "at this moment, or the file was cut short"
        )
    if unchecked := found.checked.count(None):
        remarks.append(
            f"{path}: {count(unchecked, 'row')} of {len(found.rows):,} without a checksum, as "
            "version 0.1 wrote them: a damaged number would not be noticed there"
        )
    return remarks


def read_results(*paths: str | Path) -> list[dict]:
    """All rows of a file that `tools/evaluate.py` wrote; of several files, each row once.

    Raises:
        MissingFileError: When there is no such file.
        UserError: Naming the file, the line and the key that does not fit the schema above.
    """
    rows: list[dict] = []
    for path in paths:
        if not Path(path).is_file():
            raise MissingFileError(
                f"results file '{path}' does not exist: tools/evaluate.py writes it"
            )
        found = _read(path)
        for number, row in zip(found.lines, found.rows, strict=True):
            check_row(row, f"{path}:{number}")
        rows = found.rows
    return merge(paths) if len(paths) > 1 else rows


def is_of_evaluate(row: Mapping) -> bool:
    """Whether a row claims to be of `tools/evaluate.py`; `check_row` says whether it is right."""
    return row.get("task") not in _OTHER_TABLES and "init" not in row


def check_row(row: Mapping, place: str) -> None:
    """Check that a row is a result of `tools/evaluate.py`.

    Args:
        place: Of the row, for messages.

    Raises:
        UserError: Naming the place and the key that does not fit the schema above.
    """
    task = row.get("task")
    if task in _OTHER_TABLES:
        raise UserError(
            f"{place} has task '{task}', a row of {_OTHER_TABLES[task]}, which makes its own "
            "table: give the results.jsonl of tools/evaluate.py"
        )
    if task == "knn" and "init" in row:
        raise UserError(
            f"{place} is a row of tools/knn.py --out, which states no method and no protocol: run "
            "tools/evaluate.py --tasks knn"
        )
    for key, types in (_TYPES | _LATER).items():
        if key not in row and key in _LATER:
            continue
        if key not in row:
            raise UserError(f"{place} has no key '{key}', which every result needs")
        value = row[key]
        if not isinstance(value, types) or isinstance(value, bool):
            wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise UserError(f"{place} has {key} {value!r}, expected {wanted}")
    for key, known in (
        ("task", TASKS),
        ("protocol", PROTOCOLS),
        ("metric", _metric_names(row["task"], row["data"])),
    ):
        if row[key] not in known:
            raise UserError(f"{place} has {key} '{row[key]}', expected one of {', '.join(known)}")
    _check_value(row, place)
    _check_spread(row, place)
    digits = set(row["weights_sha256"])
    if len(row["weights_sha256"]) != 64 or not digits <= set("0123456789abcdef"):
        raise UserError(
            f"{place} has weights_sha256 '{row['weights_sha256']}', expected 64 hexadecimal digits"
        )
    try:
        datetime.fromisoformat(row["time"])
    except ValueError:
        raise UserError(
            f"{place} has time '{row['time']}', expected ISO 8601, like 2026-01-31T12:00:00"
        ) from None


def _metric_names(task: str, data: str) -> list[str]:
    return [metric.name for metric in metrics_of(task, data)] if task in TASKS else []


def _check_value(row: Mapping, place: str) -> None:
    value, metric = row["value"], metric_of(row["task"], row["data"], row["metric"])
    if value is None:
        return
    if metric.unit == "%" and not 0 <= value <= 100:
        raise UserError(f"{place} has value {value}, which is outside 0..100 %")
    if not 0 <= value < float("inf"):
        raise UserError(
            f"{place} has value {value}, expected a number of {metric.unit or 'any'} size"
        )


def _check_spread(row: Mapping, place: str) -> None:
    """Check interval and draws, which are numbers of the same unit as the value."""
    for key in ("interval", "draws"):
        numbers = row.get(key, [])
        if not all(isinstance(n, _NUMBER) and not isinstance(n, bool) for n in numbers):
            raise UserError(f"{place} has {key} {numbers}, expected numbers")
        for number in numbers:
            _check_value(dict(row, value=number), f"{place}, {key}:")
    if "interval" in row:
        ends = row["interval"]
        if len(ends) != 2 or ends[0] > ends[1]:
            raise UserError(f"{place} has interval {ends}, expected [low, high]")


@dataclass
class _File:
    """Rows, the numbers of their lines, and whether their checksums fit (None without one).

    Attributes:
        is_cut: Whether the last line is no row and has no end.
    """

    rows: list[dict] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    checked: list[bool | None] = field(default_factory=list)
    is_cut: bool = False


def _read(path: str | Path) -> _File:
    path, found = Path(path), _File()
    if not path.is_file():
        return found
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line.endswith(TORN) or not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # of JSON or of UTF-8; nested too deeply
            if number == len(lines):  # no line end: a killed writer's, or one that is being written
                found.is_cut = True
                continue
            raise UserError(_no_row(path, number, str(error))) from None
        if not isinstance(row, dict):
            raise UserError(_no_row(path, number, repr(line[:40])))
        fits = take_checksum(row)
        if fits is False:
            raise UserError(
                f"{path}:{number} was changed after it was written, since its checksum does not "
                "fit: take the file from a backup, or remove this line; if you changed it "
                f'yourself, remove its "{KEY}"'
            )
        found.rows.append(row)
        found.lines.append(number)
        found.checked.append(fits)
    return found


def _no_row(path: Path, number: int, why: str) -> str:
    """A damaged line of a results file is to be removed; another file is not one."""
    if path.suffix == ".jsonl":
        return f"{path}:{number} is not a JSON object ({why}): remove this line"
    return (
        f"{path} is not a results file: line {number} is not a JSON object ({why}); give a "
        "results.jsonl"
    )


@contextmanager
def _locked(file: int, path: Path) -> Iterator[None]:
    """Let one writer at a time append.

    On network file systems O_APPEND alone does not keep two machines from writing to one place, and
    `flock` may be missing; creating a file exclusively works on all of them.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
    except OSError:
        with _lock_file(path.with_name(f".{path.name}.lock")):
            yield
    else:
        yield


@contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()
            time.sleep(0.005)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
