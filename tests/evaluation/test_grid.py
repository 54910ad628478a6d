"""A grid keeps what has rows, and says how it ended."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from milan_mm.errors import Stopped, UserError
from milan_mm.evaluation import grid
from milan_mm.evaluation.results import append_rows, read_rows
from milan_mm.evaluation.row_schema import make_rows
from milan_mm.run.jobs import Job


@dataclass
class Number:
    """A cell whose number is there at once, or whose training fails."""

    number: int
    job: Job | None = None
    error: Exception | None = None
    earlier_seconds: float = 0.0

    @property
    def title(self) -> str:
        return f"number {self.number}"

    @property
    def identity(self) -> dict:
        return dict(number=self.number)

    @property
    def claim(self) -> str:
        return f"number-{self.number}"

    def rows(self) -> list[dict]:
        if self.error:
            raise self.error
        return make_rows(self.identity, dict(AP=1.0 * self.number))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_cells_with_rows_are_kept_and_counted(results: Path, capsys: pytest.CaptureFixture):
    cells = [Number(0), Number(1)]
    append_rows(results, cells[0].rows())
    assert grid.missing_cells(cells, results, "--fresh starts over") == cells[1:]
    said = capsys.readouterr().out
    assert said == "1 of 2 cells are finished and kept (--fresh starts over)\n"


def test_a_row_has_the_seconds_of_all_starts(results: Path):
    assert grid.run_in_turn([Number(0, earlier_seconds=100.0)], results) == []
    (row,) = read_rows(results)
    assert 100 <= row["seconds"] < 110


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), UserError("no\nimage")])
def test_a_cell_that_fails_is_named_and_the_others_run(
    results: Path, capsys: pytest.CaptureFixture, error: Exception
):
    cells = [Number(0, error=error), Number(1)]
    assert grid.run_in_turn(cells, results) == cells[:1]
    (row,) = read_rows(results)
    assert (row["number"], row["metric"], row["value"]) == (1, "AP", 1.0)
    assert row["seconds"] >= 0
    out, err = capsys.readouterr()
    assert err == f"error: {' '.join(str(error).split())}\n"
    assert out.splitlines() == ["1/2 number 0", "2/2 number 1", "    AP 1.00"]


def test_cells_side_by_side_start_from_empty_folders(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    later = Job("finetune", "b", "config", tmp_path / "later", num_iters=1)
    job = Job("pretrain", "a", "config", tmp_path / "first", num_iters=1, follow_up=later)
    for link in job.chain():
        (link.work_dir / "of-an-interrupted-run").mkdir(parents=True)
    monkeypatch.setattr(grid, "run_jobs", lambda jobs, _: [(job, 2.0) for job in jobs])
    grid.run_side_by_side([Number(3, job)], results, num_parallel=2)
    assert not later.work_dir.exists() and not job.work_dir.exists()
    assert read_rows(results) == [dict(metric="AP", value=3.0, number=3, seconds=2.0)]


def test_cells_that_need_no_training_give_their_rows_before_others_are_trained(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    job = Job("pretrain", "a", "config", tmp_path / "first", num_iters=1)
    monkeypatch.setattr(grid, "run_jobs", lambda jobs, _: [(job, 2.0) for job in jobs])
    grid.run_side_by_side([Number(3, job), Number(4)], results, num_parallel=2)
    assert [row["number"] for row in read_rows(results)] == [4, 3]
    assert capsys.readouterr().out == "1/1 number 4\n"


@pytest.mark.parametrize(
    ("stop", "code", "message"),
    [
        (RuntimeError("det failed"), 1, "error: det failed"),
        (KeyboardInterrupt(), 130, "interrupted: finished cells are kept"),
        (Stopped(75, "a was stopped"), 75, "interrupted: finished cells are kept"),
    ],
)
def test_a_grid_that_stops_says_why_by_its_exit_code(
    capsys: pytest.CaptureFixture, stop: BaseException, code: int, message: str
):
    with pytest.raises(SystemExit) as end, grid.stopping():
        raise stop
    assert end.value.code == code
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 130), ("SIGUSR1", 75)])
def test_a_signal_stops_a_grid_like_an_interrupt_and_only_a_grid(name: str, code: int):
    number = signal.Signals[name]
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end, grid.stopping():
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 1)  # the handler runs between two instructions
    assert end.value.code == code
    assert signal.getsignal(number) is before


def test_a_signal_that_the_caller_ignores_does_not_stop_a_grid():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with grid.stopping():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


SHARE = """
import sys, time
from pathlib import Path
from milan_mm.evaluation.grid import run_in_turn
from tests.evaluation.test_grid import Number

class Slow(Number):
    def rows(self):
        time.sleep(0.05)
        return super().rows()

order = list(range(8))[:: -1 if sys.argv[1] == "1" else 1]
run_in_turn([Slow(i) for i in order], Path({results!r}))
"""
HOLD = """
import time
from pathlib import Path
from milan_mm.evaluation.claims import claimed
with claimed(Path({folder!r}, "claims"), "number-0") as holder:
    print("held" if holder is None else holder, flush=True)
    time.sleep(60)
"""


def test_processes_that_share_a_folder_run_each_cell_once(results: Path):
    """Real processes, since a process does not see its own locks."""
    script = SHARE.format(results=str(results))
    started = [subprocess.Popen([sys.executable, "-c", script, str(i)]) for i in range(3)]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    assert sorted(row["number"] for row in read_rows(results)) == list(range(8))


def test_a_cell_that_another_process_runs_is_left_to_it(
    results: Path, capsys: pytest.CaptureFixture
):
    hold = [sys.executable, "-c", HOLD.format(folder=str(results.parent))]
    other = subprocess.Popen(hold, stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "held\n"
    assert grid.run_in_turn([Number(0), Number(1)], results) == []
    said = capsys.readouterr().out
    assert f"1/2 number 0: left to process {other.pid} on" in said
    assert "1 of 2 cells left to other processes" in said
    other.kill()  # which drops its claim
    other.wait()
    grid.run_in_turn([Number(0), Number(1)], results)
    assert sorted(row["number"] for row in read_rows(results)) == [0, 1]
