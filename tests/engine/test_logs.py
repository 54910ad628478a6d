"""A log that cannot be written costs lines, and one warning."""

import logging
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from milan_mm.engine.logs import LocalVisBackend, TensorboardVisBackend, keep_logging


def test_a_full_disk_under_the_log_is_said_once(capfd: pytest.CaptureFixture):
    logger = logging.Logger("full")
    logger.addHandler(logging.FileHandler("/dev/full", mode="a"))
    keep_logging(logger)
    for i in range(3):
        logger.warning("line %d", i)
    assert capfd.readouterr().err == (
        "warning: '/dev/full' cannot be written: No space left on device; the run goes on, and "
        "lines of its log are lost\n"
    )


def test_a_log_goes_on_where_it_was(tmp_path: Path):
    logger = logging.Logger("log")
    handler = logging.FileHandler(tmp_path / "a.log", mode="w")
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.warning("before")
    keep_logging(logger)
    logger.warning("after")
    assert (tmp_path / "a.log").read_text() == "WARNING before\nWARNING after\n"


def test_curves_that_cannot_be_written_do_not_end_a_run(
    tmp_path: Path, capfd: pytest.CaptureFixture
):
    backend = LocalVisBackend(str(tmp_path / "vis_data"))
    backend.add_scalars(dict(loss=1.0), step=1, file_path="1.json")
    (tmp_path / "vis_data/scalars.json").unlink()
    (tmp_path / "vis_data/scalars.json").symlink_to("/dev/full")
    backend.add_scalars(dict(loss=2.0), step=2)
    (tmp_path / "vis_data").rename(tmp_path / "gone")
    backend.add_scalars(dict(loss=3.0), step=3)
    assert capfd.readouterr().err.count("cannot be written: No space left on device") == 1


def test_curves_for_tensorboard_that_cannot_be_written_do_not_end_a_run(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # of TensorBoard's writer
    backend = TensorboardVisBackend(str(tmp_path / "board"))
    backend.add_scalars(dict(loss=1.0), step=1)
    backend.experiment.flush()
    (events,) = (tmp_path / "board").iterdir()
    events.unlink()
    events.symlink_to("/dev/full")
    for step in range(2, 5):
        backend.add_scalars(dict(loss=1.0), step=step)
        with suppress(OSError):
            backend.experiment.flush()
    backend.close()
    assert capfd.readouterr().err.count("cannot be written: No space left on device") == 1
