"""Running a grid of trainings: what has its rows is kept, the rest runs and appends its own.

The demo, the ablation and the evaluation of encoders are such grids. A grid that was interrupted
goes on where it was.
"""

import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeVar

from milan_mm.errors import INTERRUPTED, STOPPED, Stopped, UserError
from milan_mm.escaping import visible
from milan_mm.evaluation.claims import claimed
from milan_mm.evaluation.results import append_rows, read_rows, remarks_on
from milan_mm.evaluation.row_schema import is_same
from milan_mm.run.errors import one_line
from milan_mm.run.jobs import Job, run_jobs
from milan_mm.signals import SIGNALS
from milan_mm.text import count


class GridCell(Protocol):
    """One place of a grid: a training, and the rows that it gives."""

    @property
    def title(self) -> str:
        """What messages call it."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Keys and values that its rows have, and those of no other cell."""

    @property
    def job(self) -> Job | None:
        """Its training; None if nothing is left to train."""

    def rows(self) -> list[dict]:
        """Its numbers, once it is trained; the grid adds the seconds that they took.

        Raises:
            RuntimeError, UserError: When there are none.
        """


class SharedCell(GridCell, Protocol):
    """A cell that one of several processes runs."""

    @property
    def claim(self) -> str:
        """Name of a file; cells with one training have one name."""

    @property
    def earlier_seconds(self) -> float:
        """That earlier starts of its training took, which have ended before its end."""


AnyCell = TypeVar("AnyCell", bound=GridCell)


def is_in(cell: GridCell, rows: Sequence[Mapping]) -> bool:
    """Whether a row of a results file is this cell's."""
    return any(is_same(row, cell.identity) for row in rows)


def missing_cells(cells: Sequence[AnyCell], results: Path, hint: str = "") -> list[AnyCell]:
    """The cells without rows; says how many have some.

    Args:
        hint: How to run these again.

    Raises:
        UserError: For a results file that cannot be read.
    """
    rows = read_rows(results)
    for remark in remarks_on(results):
        say(remark)
    missing = [cell for cell in cells if not is_in(cell, rows)]
    if kept := len(cells) - len(missing):
        say(f"{kept} of {len(cells)} cells are finished and kept" + (hint and f" ({hint})"))
    return missing


def run_side_by_side(cells: Sequence[GridCell], results: Path, num_parallel: int) -> None:
    """Train cells, several at a time, each from the start; those without a training come first.

    Raises:
        RuntimeError: When a training failed. Those that run by then are finished first, and their
            rows are kept.
    """
    todo = [(cell, job) for cell in cells if (job := cell.job)]
    for i, cell in enumerate(ready := [cell for cell in cells if not cell.job], 1):
        say(f"{i}/{len(ready)} {cell.title}")
        started = time.monotonic()
        append_rows(results, _timed(cell.rows(), time.monotonic() - started))
    if not todo:
        return
    for _, job in todo:
        for link in job.chain():
            shutil.rmtree(link.work_dir, ignore_errors=True)  # of an interrupted run
    cell_of = {id(job): cell for cell, job in todo}
    for job, seconds in run_jobs([job for _, job in todo], num_parallel):
        append_rows(results, _timed(cell_of[id(job)].rows(), seconds))


def run_in_turn(
    cells: Sequence[SharedCell], results: Path, facts: Mapping[str, object] | None = None
) -> list[SharedCell]:
    """Train cells one after another, each from its last checkpoint on, also after one that failed.

    Any number of processes may do this at a time, on one machine or on many with one file system:
    a cell that another is at, or has finished meanwhile, is left to it.

    Args:
        facts: That all rows get besides their own.

    Returns:
        The cells that failed, whose errors were printed.
    """
    failed: list[SharedCell] = []
    elsewhere = 0
    for i, cell in enumerate(cells, 1):
        title = f"{i}/{len(cells)} {cell.title}"
        with claimed(results.parent / "claims", cell.claim) as holder:
            if holder:
                say(f"{title}: left to {holder}")
                elsewhere += 1
            elif is_in(cell, read_rows(results)):
                say(f"{title}: finished meanwhile")
            else:
                say(title)
                failed += [] if _run(cell, results, facts or {}) else [cell]
    if elsewhere:
        say(f"{elsewhere} of {count(len(cells), 'cell')} left to other processes")
    return failed


def _run(cell: SharedCell, results: Path, facts: Mapping[str, object]) -> bool:
    """Train a cell and append its rows; says what failed."""
    started = time.monotonic() - cell.earlier_seconds
    try:
        if job := cell.job:
            for _ in run_jobs([job], 1):
                pass
        rows = [row | dict(facts) for row in _timed(cell.rows(), time.monotonic() - started)]
    except (RuntimeError, UserError) as error:
        message = one_line(error) if isinstance(error, UserError) else error
        print(f"error: {message}", file=sys.stderr, flush=True)
        return False
    append_rows(results, rows)
    say("    " + ", ".join(f"{row['metric']} {_number(row['value'])}" for row in rows))
    return True


@contextmanager
def stopping() -> Iterator[None]:
    """How a grid ends before its end.

    The exit code is 1 after a failed training, 130 after Ctrl-C and SIGTERM, and 75 after the
    warnings of schedulers. The trainings, which are processes of their own, are ended and save.
    """

    def warned(number: int, frame: FrameType | None) -> None:
        raise Stopped(STOPPED)

    interrupts = (signal.SIGINT, signal.SIGTERM)
    before = {
        number: signal.signal(
            number, signal.default_int_handler if number in interrupts else warned
        )
        for number in SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print("interrupted: finished cells are kept, the same command goes on", file=sys.stderr)
        sys.exit(stop.code if isinstance(stop, Stopped) else INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Print a line of progress without delay, also into a pipe."""
    print(visible(text, "\n"), flush=True)


def _timed(rows: Sequence[Mapping], seconds: float) -> list[dict]:
    return [dict(row) | dict(seconds=round(seconds, 1)) for row in rows]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
