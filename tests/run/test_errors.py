"""Which errors become one line, and what a run that did not start leaves behind."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub

from milan_mm.engine.hooks.losses import LossHook
from milan_mm.run import errors
from milan_mm.run.errors import user_errors


@pytest.fixture
def training() -> Iterator[None]:
    """As if training had started."""
    MessageHub.get_instance("test_errors").update_info("loop_stage", "train")
    yield
    MessageHub.get_instance("test_errors").pop_info("loop_stage")


def test_a_mistake_before_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop, user_errors(Config(dict(work_dir=str(tmp_path)))):
        raise ValueError("several\nlines  of text")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: several lines of text\n"


def test_what_the_system_says_of_a_path_is_one_line(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop, user_errors():
        raise OSError(30, "Read-only file system", "/mnt/out")
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: '/mnt/out': Read-only file system: make it writable, or choose another --work-dir\n"
    )


@pytest.mark.parametrize("error", [OSError(104, "Connection reset by peer"), OSError("no network")])
def test_other_errors_of_the_system_keep_their_traceback(error: OSError):
    with pytest.raises(OSError, match=str(error.args[-1])), user_errors():
        raise error


@pytest.mark.parametrize(
    ("environment", "waits"),
    [
        ({}, False),
        (dict(RANK="0", LOCAL_RANK="0"), False),
        (dict(RANK="1", LOCAL_RANK="1"), True),
        (dict(RANK="8", LOCAL_RANK="0"), False),  # the first of a second machine
        (dict(SLURM_PROCID="8", LOCAL_RANK="0"), True),  # tools/train.py sets LOCAL_RANK
    ],
)
def test_a_process_that_is_not_the_first_waits_before_it_tells_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, environment: dict, waits: bool
):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    waited: list[str] = []
    monkeypatch.setattr(errors.time, "sleep", lambda _: waited.append(capsys.readouterr().err))
    with pytest.raises(SystemExit), user_errors():
        raise ValueError("gone")
    assert waited == [""] * waits  # nothing was said before
    assert capsys.readouterr().err == "error: gone\n"


@pytest.mark.usefixtures("training")
def test_a_defect_during_training_keeps_its_traceback():
    with pytest.raises(ValueError, match="too many values"), user_errors():
        _, _ = (1, 2, 3)


@pytest.mark.usefixtures("training")
def test_a_stop_by_this_package_during_training_is_one_line(capsys: pytest.CaptureFixture):
    hub = MessageHub.get_current_instance()
    runner = SimpleNamespace(iter=0, message_hub=hub, optim_wrapper=None, hooks=[])
    with pytest.raises(SystemExit), user_errors():
        LossHook().after_train_iter(runner, 0, outputs=dict(loss=float("nan")))
    assert capsys.readouterr().err.startswith("error: the loss is nan at iteration 1")


@pytest.mark.usefixtures("training")
def test_a_failure_of_the_machine_during_training_is_one_line_with_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as stop, user_errors(Config(dict(work_dir=str(tmp_path)))):
        raise OSError(28, "No space left on device")
    assert stop.value.code == 1
    line = capsys.readouterr().err
    assert line.startswith(f"error: '{tmp_path}' was not written, No space left on device (")
    assert line.count("\n") == 1
    assert tmp_path.exists()
