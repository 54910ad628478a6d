"""A failed write costs nothing."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner.checkpoint import save_checkpoint

from milan_mm.engine import atomic  # noqa: F401 (registers the backend)
from milan_mm.files import replacing


def test_a_write_that_fails_half_way_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "last.pth"
    backend = dict(backend="atomic_local")
    save_checkpoint(dict(step=1), str(path), backend_args=backend)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(dict(step=2), str(path), backend_args=backend)
    assert torch.load(path) == dict(step=1)
    assert os.listdir(tmp_path) == ["last.pth"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    path = tmp_path / "report.json"
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # its block ended last
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path):
    get_file_backend(backend_args=dict(backend="atomic_local")).put_text("ä", tmp_path / "a/b")
    (tmp_path / "usual").touch()
    assert (tmp_path / "a/b").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "a/b").read_text(encoding="utf-8") == "ä"
