"""What the machine has too little of is named with the command that gets more."""

import resource
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from milan_mm.doctor import folders, machine
from milan_mm.doctor.fault import Concern, Fault

_Usage = namedtuple("_Usage", "total used free")


def test_a_full_disk_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(2**40, 2**40, 2**29))
    with pytest.raises(Fault, match=r"0\.5 GiB free") as fault:
        folders.check_work_dirs()
    assert "--work-dir" in fault.value.remedy


def test_a_folder_of_runs_that_cannot_be_written_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refused(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "TemporaryFile", refused)
    with pytest.raises(Fault, match="Read-only file system") as fault:
        folders.check_work_dirs()
    assert "--work-dir" in fault.value.remedy


def test_small_shared_memory_is_noted_with_docker_s_option(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(2**26, 0, 2**26))
    with pytest.raises(Concern, match=r"/dev/shm has 0\.06 GiB free, wanted 2 GiB") as found:
        machine.check_shared_memory()
    assert "--shm-size" in found.value.remedy


def test_missing_shared_memory_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "SHARED_MEMORY", Path("/nowhere"))
    with pytest.raises(Fault, match="No such file"):
        machine.check_shared_memory()


@pytest.mark.parametrize(
    ("limits", "remedy"), [((256, 100_000), "ulimit -n 4096"), ((256, 256), "limits.conf")]
)
def test_few_open_files_are_noted_with_what_can_be_done(
    limits: tuple[int, int], remedy: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    with pytest.raises(Concern, match="256 open files per process, wanted 4096") as found:
        machine.check_open_files()
    assert remedy in found.value.remedy


def test_a_taken_port_is_noted(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        monkeypatch.setattr(machine, "PORT", other.getsockname()[1])
        with pytest.raises(Concern, match="is taken") as found:
            machine.check_ports()
    assert "PORT=" in found.value.remedy


def _coco(root: Path) -> Path:
    for name in ("annotations", "train2017", "val2017"):
        (root / "data/coco" / name).mkdir(parents=True)
        (root / "data/coco" / name / "a").touch()
    return root / "data/coco"


def test_data_sets_that_are_there_and_missing_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _coco(tmp_path)
    monkeypatch.chdir(tmp_path)
    line = folders.check_data()
    assert line.startswith("found data/coco; not here: data/imagenet")


@pytest.mark.parametrize("reason", ["missing", "empty", "link"])
def test_a_broken_data_set_is_noted(reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = _coco(tmp_path) / "val2017"
    (folder / "a").unlink()
    if reason != "empty":
        folder.rmdir()
    if reason == "link":
        folder.symlink_to("/nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Concern, match=rf"'data/coco/val2017' is (a )?{reason}"):
        folders.check_data()
