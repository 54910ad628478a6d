"""No entry takes a file that is made to harm: none runs its code, all refuse it in one line."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from tests.hostile import entries, greedy, kinds

# Each entry with one kind, and each kind at some entry; the benchmark runs all of them.
SAMPLE = list(zip(entries.TOOLS, cycle(kinds.KINDS), strict=False))
IN_PYTHON = [(entry, kind) for entry in entries.python_entries() for kind in kinds.KINDS]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    entries.prepare(tmp_path)
    return tmp_path


def test_every_option_that_takes_a_file_is_an_entry_or_known_to_take_none(
    monkeypatch: pytest.MonkeyPatch,
):
    found = entries.options_of_tools(monkeypatch)
    ways = {(tool, option.partition(" ")[0]) for tool, option in entries.TOOLS}
    assert ways - found == {("train", "--cfg-options"), ("test", "--cfg-options")}
    assert sorted(pair for pair in found - ways if pair[1] not in entries.OTHERS) == []


@pytest.mark.parametrize(("entry", "kind"), SAMPLE, ids=str)
def test_a_tool_refuses_a_file_that_is_made_to_harm(
    entry: tuple[str, str], kind: str, folder: Path, capfd: pytest.CaptureFixture
):
    file, marker = kinds.write(kind, folder)
    run = partial(entries.call, entry, str(file))
    assert entries.is_refused(run, file, marker, lambda: capfd.readouterr().err) == ""


@pytest.mark.long
def test_small_files_that_ask_for_much_are_refused_within_a_fixed_memory():
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.greedy"],
        cwd=entries.ROOT,
        env=os.environ | dict(PYTHONPATH=str(entries.ROOT)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    number = len(greedy.GREEDY)
    assert done.returncode == 0, done.stderr
    assert f"{number} of {number} refused" in done.stdout.splitlines()[-1], done.stdout


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_resuming_and_a_report_pass_by_a_file_that_is_made_to_harm(
    kind: str, folder: Path, capfd: pytest.CaptureFixture
):
    (folder / "run").mkdir()
    file, marker = kinds.write(kind, folder / "run")
    file = file.rename(file.with_name("epoch_1.pth"))
    with pytest.raises(SystemExit, match="2"):  # not a checkpoint, so not a work directory
        entries.defined_by("report")["main"](["run", "--html"])
    run = partial(entries.defined_by("train")["main"], ["cls.py", "--work-dir", "run", "--resume"])
    assert entries.is_refused(run, file, marker, lambda: capfd.readouterr().err) == ""


@pytest.mark.parametrize(("entry", "kind"), IN_PYTHON, ids=str)
def test_a_function_refuses_a_file_that_is_made_to_harm(entry: str, kind: str, tmp_path: Path):
    file, marker = kinds.write(kind, tmp_path)
    run: Callable[[], object] = partial(entries.python_entries()[entry], str(file))
    assert entries.is_refused(run, file, marker, str) == ""
