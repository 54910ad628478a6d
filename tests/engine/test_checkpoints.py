"""Nothing that mmengine loads in a run can run code, and a failed write costs nothing."""

import importlib
import io
import os
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import save_checkpoint

from milan_mm.engine import checkpoints, downloads
from milan_mm.engine.checkpoints import safe_loading
from milan_mm.errors import UserError
from milan_mm.files import replacing
from tests.hostile.kinds import Call

SCHEMES = list(CheckpointLoader._schemes)
# Schemes that other versions of OpenMMLab know or knew, and an invented one.
OTHERS = ("mmpretrain://a", "jhu://a", "bvlc://a", "ceph://a/b.pth", "my-cloud://a/b.pth")
NAMED = ("torchvision://", "modelzoo://", "open-mmlab://", "openmmlab://", "mmcls://")


class _Answer(io.BytesIO):
    headers: ClassVar[dict[str, str]] = {}
    url = "https://example.com"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that hides code; every download gives it, and every name of a zoo is an address."""
    path = tmp_path / "hostile.pth"
    torch.save(dict(state_dict={}, meta=Call(os.mkdir, str(tmp_path / "marker"))), path)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(downloads, "urlopen", lambda *_, **__: _Answer(path.read_bytes()))
    names = dict(model="https://example.com/weights/model.pth")
    for zoo in ("get_torchvision_models", "get_external_models", "get_mmcls_models"):
        monkeypatch.setattr(mmengine_checkpoint, zoo, lambda: names)
    return path


def address(scheme: str, path: Path) -> str:
    """An address that mmengine hands to the loader of a scheme, which may be a pattern."""
    if scheme == "":
        return str(path)
    if scheme in NAMED:
        return f"{scheme}model"
    return scheme.removeprefix(r"(\S+\:)?") + "bucket/model.pth"


def test_the_schemes_of_mmengine_and_its_family_are_those_that_are_known_here():
    for library in ("mmcv", "mmdet.models", "mmseg.models", "mmpretrain.models", "mmengine.hub"):
        importlib.import_module(library)
    read_here = {"", "http://", "https://", *NAMED}
    refused = {"pavi://", r"(\S+\:)?petrel://", r"(\S+\:)?s3://"}
    assert set(CheckpointLoader._schemes) == read_here | refused
    assert set(checkpoints._LOADERS) == read_here


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_scheme_of_mmengine_runs_hidden_code(scheme: str, hostile: Path):
    message = "would have to be executed|cannot be read safely: .* copy it to a local file"
    with safe_loading(), pytest.raises(UserError, match=message):
        CheckpointLoader.load_checkpoint(address(scheme, hostile))
    assert not (hostile.parent / "marker").exists()


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s not in ("pavi://",) and "(" not in s])
def test_the_same_file_does_run_by_mmengines_own_loader(
    scheme: str, hostile: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        mmengine_checkpoint, "load_url", lambda *_, **__: torch.load(hostile, weights_only=False)
    )
    CheckpointLoader.load_checkpoint(address(scheme, hostile))
    assert (hostile.parent / "marker").exists()


@pytest.mark.parametrize("other", OTHERS)
def test_a_scheme_that_nobody_registered_is_refused_as_such(other: str):
    with safe_loading(), pytest.raises(UserError, match="cannot be read safely: checkpoints come"):
        CheckpointLoader.load_checkpoint(other)


def test_a_scheme_that_a_plugin_registered_is_refused(hostile: Path):
    before = CheckpointLoader._schemes.copy()
    try:
        CheckpointLoader.register_scheme("plugin://", lambda path, map_location: {})
        with safe_loading(), pytest.raises(UserError, match="'plugin://a' cannot be read safely"):
            CheckpointLoader.load_checkpoint("plugin://a")
    finally:
        CheckpointLoader._schemes = before


@pytest.mark.parametrize("scheme", SCHEMES)
def test_others_in_the_process_keep_their_loader(scheme: str):
    own = CheckpointLoader._schemes[scheme]
    with safe_loading(), safe_loading():
        assert CheckpointLoader._schemes[scheme] is not own
    assert CheckpointLoader._schemes[scheme] is own
    assert own.__module__ == "mmengine.runner.checkpoint"


@pytest.mark.parametrize("scheme", NAMED)
def test_a_misspelt_name_of_a_zoo_is_one_line(scheme: str, hostile: Path):
    with safe_loading(), pytest.raises(UserError, match="of the name 'modle': did you mean model"):
        CheckpointLoader.load_checkpoint(f"{scheme}modle")


def test_names_of_a_zoo_give_its_tensors(hostile: Path):
    weights = {"backbone.a": torch.ones(2), "head.b": torch.ones(3)}
    torch.save(dict(state_dict=weights), hostile)
    with safe_loading():
        whole = CheckpointLoader.load_checkpoint("torchvision://model")["state_dict"]
        assert whole.keys() == weights.keys()
        backbone = CheckpointLoader.load_checkpoint("mmcls://model")["state_dict"]
        assert backbone.keys() == {"a"}


def test_a_config_inside_a_checkpoint_never_reaches_the_code_that_executes_it(tmp_path: Path):
    path = tmp_path / "old.pth"
    torch.save(dict(state_dict={}, meta=dict(config="import os", epoch=3)), path)
    with safe_loading():
        assert CheckpointLoader.load_checkpoint(str(path))["meta"] == dict(epoch=3)


def test_a_write_that_fails_half_way_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "last.pth"
    backend = dict(backend="atomic_local")
    save_checkpoint(dict(step=1), str(path), backend_args=backend)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    monkeypatch.setattr(checkpoints, "WAITS", ())
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
