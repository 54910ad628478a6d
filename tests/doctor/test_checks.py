"""The report: one line for each check, and an exit code."""

import pytest

from milan_mm.doctor import checks
from milan_mm.doctor.checks import main
from milan_mm.doctor.fault import Concern, Fault


def test_this_installation_passes_every_check(capsys: pytest.CaptureFixture[str]):
    assert main() == 0, capsys.readouterr().out
    assert "nms and roi_align give the known answers on cpu" in capsys.readouterr().out


def test_a_fault_gives_exit_code_1_and_the_other_checks_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken() -> str:
        raise Fault("the disk is on fire", "pour water")

    monkeypatch.setattr(checks, "all_checks", lambda: {"a": broken, "b": lambda: "fine"})
    assert main() == 1
    fault, remedy, fine, summary = capsys.readouterr().out.splitlines()
    assert fault.startswith("FAULT") and "the disk is on fire" in fault
    assert remedy.endswith("pour water")
    assert fine.startswith("ok") and summary.startswith("1 fault")


def test_what_only_some_runs_need_is_noted_and_not_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def small() -> str:
        raise Concern("it is small", "take less")

    monkeypatch.setattr(checks, "all_checks", lambda: {"a": small})
    assert main() == 0
    note, remedy, summary = capsys.readouterr().out.splitlines()
    assert note.startswith("note ") and remedy.endswith("take less")
    assert summary == "all well, 1 note"
