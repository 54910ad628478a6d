"""Nothing that mmengine loads can run code, and a failed write costs nothing."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import save_checkpoint

from milan_mm.engine import checkpoints  # noqa: F401 (registers loaders and backend)
from milan_mm.files import replacing


class _Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_hidden_code_is_refused_and_not_run(tmp_path: Path):
    marker, path = tmp_path / "marker", tmp_path / "hostile.pth"
    torch.save(dict(state_dict={}, meta=_Payload(marker)), path)
    with pytest.raises(ValueError, match="would have to be executed"):
        CheckpointLoader.load_checkpoint(str(path))
    assert not marker.exists()


def test_a_config_inside_a_checkpoint_never_reaches_the_code_that_executes_it(tmp_path: Path):
    path = tmp_path / "old.pth"
    torch.save(dict(state_dict={}, meta=dict(config="import os", epoch=3)), path)
    assert CheckpointLoader.load_checkpoint(str(path))["meta"] == dict(epoch=3)


def test_a_download_is_read_as_safely_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    marker = tmp_path / "marker"

    def download(url: str, path: str) -> None:
        torch.save(_Payload(marker), path)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(ValueError, match="would have to be executed"):
        CheckpointLoader.load_checkpoint("https://example.com/weights/vit.pth")
    assert not marker.exists()


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
