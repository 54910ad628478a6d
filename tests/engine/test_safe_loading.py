"""Nothing that mmengine loads can run code."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from milan_mm.engine import safe_loading  # noqa: F401 (registers the loaders)


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
