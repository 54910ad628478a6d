"""The results file: one JSON object per line, appended whole; row_schema.py has the keys."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.row_checksum import KEY, line_of, take_checksum
from milan_mm.evaluation.row_schema import check_row
from milan_mm.text import count

# Ends a line that a killed writer left unfinished; no JSON value ends like this.
TORN = b" <- cut off"
STALE_SECONDS = 30.0  # an append takes milliseconds, so an older lock file is of a killed writer


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
