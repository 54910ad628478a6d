"""The launcher says why a run of several processes ended: the first reason, once."""

import json
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.lifetime import LAUNCHERS_FOLDER
from milan_mm.run import errors, reasons
from milan_mm.run.reasons import DEFECT, FAILURE, LOST, MISTAKE, Reason, leave

PEER = "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:27011"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a launcher waits for reasons."""
    monkeypatch.setenv(LAUNCHERS_FOLDER, str(tmp_path))
    monkeypatch.setattr(errors, "SECONDS_FOR_THE_CAUSE", 0)
    return tmp_path


def test_the_cause_comes_before_those_who_lost_a_process(folder: Path):
    for pid, kind, time in ((1, LOST, 1.0), (2, DEFECT, 3.0), (3, FAILURE, 2.0)):
        reason = dict(kind=kind, text=kind, rank=pid, pid=pid, time=time)
        (folder / f"{pid}.json").write_text(json.dumps(reason))
    assert Reason.first(folder).kind == FAILURE
    assert Reason.first(folder, {1, 2}).kind == DEFECT  # of this try, not of an earlier one
    assert Reason.first(folder, {1}).kind == LOST


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UserError("value, limit, remedy"), MISTAKE, 2),
        (OSError(28, "No space left on device", "epoch_1.pth"), FAILURE, 2),
        (RuntimeError(PEER), LOST, 1),
        (KeyError("a defect"), DEFECT, None),
        (AssertionError("a defect"), DEFECT, None),
    ],
)
def test_a_process_leaves_its_reason_and_is_silent(
    folder: Path, capsys, error: Exception, kind: str, code: int | None
):
    expected = type(error) if code is None else SystemExit
    with pytest.raises(expected) as stop, errors.user_errors():
        raise error
    reason = Reason.first(folder)
    assert reason.kind == kind and "\n" not in reason.text
    if code is not None:
        assert stop.value.code == code and not capsys.readouterr().err


def test_the_defect_of_a_worker_is_named_once(folder: Path):
    with pytest.raises(RuntimeError), errors.user_errors():  # as torch hands it on
        raise RuntimeError("Caught RuntimeError in DataLoader worker\n ...\nRuntimeError: a defect")
    assert Reason.first(folder).text == "RuntimeError: a defect"


def test_without_a_launcher_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(LAUNCHERS_FOLDER, raising=False)
    assert not leave(MISTAKE, "a mistake")
    monkeypatch.setenv(LAUNCHERS_FOLDER, str(tmp_path / "gone"))  # a launcher that was killed
    assert not leave(MISTAKE, "a mistake")


def test_a_process_speaks_for_itself_where_the_disk_of_reasons_is_full(
    folder: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    full = OSError(28, "No space left on device", "epoch_1.pth")
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(SystemExit), errors.user_errors():
        raise full
    assert capsys.readouterr().err.startswith("error: 'epoch_1.pth' was not written")


def test_a_restart_is_known_on_every_machine(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")  # of a machine that did not fail
    assert not reasons.is_restart()
    assert reasons.is_restart()
    monkeypatch.delenv(LAUNCHERS_FOLDER)
    assert not reasons.is_restart()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert reasons.is_restart()


def test_a_defect_of_one_process_points_at_its_traceback():
    reason = Reason(DEFECT, "KeyError: 'x'", 1, 7, 0.0)
    assert reason.sentence("process 1 of 2") == (
        "process 1 of 2 failed, its traceback is above: KeyError: 'x'"
    )
