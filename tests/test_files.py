"""Files appear whole, have the user's modes, and nothing of a killed writer stays."""

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from milan_mm import files
from milan_mm.evaluation.results import append_rows
from milan_mm.files import remove_leftovers, replacing, replacing_folder, write_whole
from milan_mm.inference.drawn import save_jpeg
from milan_mm.report.page import write_page
from milan_mm.visualization.figure_files import save_figure
from milan_mm.weights.storing import save_tensors
from tests.run.tiny_runs import run_tiny, tiny_config

WRITERS = dict(file=replacing, folder=replacing_folder)


@contextmanager
def writer(path: Path, kind: str) -> Iterator[int]:
    """Another process that is writing a file or a folder; it is killed after the block."""
    ready, tell = os.pipe()
    if not (pid := os.fork()):
        with WRITERS[kind](path) as partial:
            (partial / "a" if kind == "folder" else partial).write_bytes(b"half")
            os.write(tell, b"1")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture(autouse=True)
def _looks_every_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_SECONDS_BETWEEN_LOOKS", 0.0)


@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path, kind: str):
    with writer(tmp_path / "epoch_1.pth", kind):
        pass
    assert os.listdir(tmp_path)
    write_whole(tmp_path / "other", b"")
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_being_written_stays(tmp_path: Path, kind: str):
    with writer(tmp_path / "epoch_1.pth", kind):
        before = sorted(tmp_path.rglob("*"))
        assert remove_leftovers(tmp_path) == 0
        assert sorted(tmp_path.rglob("*")) == before


def test_another_machine_may_not_see_locks_so_only_what_rests_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with writer(tmp_path / "epoch_1.pth", "file"):
        pass
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere.example")
    assert remove_leftovers(tmp_path) == 0
    (left,) = tmp_path.iterdir()
    os.utime(left, (time.time() - 700,) * 2)
    assert remove_leftovers(tmp_path) == 1


def test_without_locks_only_what_is_a_day_old_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with replacing(tmp_path / "a") as partial:
        assert remove_leftovers(tmp_path) == 0
        os.utime(partial, (time.time() - 90_000,) * 2)
        assert remove_leftovers(tmp_path) == 1
        partial.touch()


def test_hidden_files_of_others_stay(tmp_path: Path):
    for name in (".lock", ".results.jsonl.lock", ".a.partial", ".nfs0001", "b.x.0123abcd.partial"):
        (tmp_path / name).touch()
    assert remove_leftovers(tmp_path) == 0


def test_a_folder_that_is_killed_between_out_and_in_is_finished_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, rename, moves = tmp_path / "model", os.replace, iter(range(2))
    with replacing_folder(out) as folder:
        (folder / "old").touch()

    def move(*paths: Path) -> None:
        if next(moves):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*paths)

    if not (pid := os.fork()):
        monkeypatch.setattr(os, "replace", move)
        with replacing_folder(out) as folder:
            (folder / "new").touch()
    os.waitpid(pid, 0)
    assert not out.exists()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in out.iterdir()] == ["new"]


@pytest.mark.parametrize("failures", [(1,), (1, 2)])
def test_a_folder_that_cannot_be_moved_in_is_never_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: tuple[int, ...]
):
    out, rename, moves = tmp_path / "model", os.replace, iter(range(9))
    with replacing_folder(out) as folder:
        (folder / "old").touch()

    def move(*paths: Path) -> None:
        if next(moves) in failures:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(paths[0]))
        rename(*paths)

    monkeypatch.setattr(os, "replace", move)
    with pytest.raises(OSError) as stop, replacing_folder(out) as folder:
        (folder / "new").touch()
    assert stop.value.filename == str(out)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in out.iterdir()] == ["new"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path):
    write_whole(tmp_path / ("ä" * 127), b"1")
    assert len(os.listdir(tmp_path)) == 1


def test_an_error_names_the_file_and_not_the_hidden_one(tmp_path: Path):
    (tmp_path / "there").mkdir()
    with pytest.raises(IsADirectoryError) as stop:
        write_whole(tmp_path / "there", b"1")
    assert stop.value.filename == str(tmp_path / "there")
    assert os.listdir(tmp_path) == ["there"]


def _training(folder: Path) -> None:
    cfg = tiny_config("epochs", folder / "run")
    cfg.default_hooks.update(
        logger=dict(type="LoggerHook"), checkpoint=dict(type="CheckpointHook", interval=4)
    )
    run_tiny(cfg)


# Everything that leaves files: each makes at least one below a folder.
LEAVE_FILES: dict[str, Callable[[Path], object]] = dict(
    training=_training,  # checkpoints, last_checkpoint, logs, curves, run.json, lock, config
    encoder=lambda f: save_tensors(f / "a.safetensors", dict(a=torch.zeros(2)), {}),
    results=lambda f: append_rows(f / "results.jsonl", [dict(a=1)]),
    page=lambda f: write_page(f / "report.html", "<html>"),
    picture=lambda f: save_jpeg(f / "a.jpg", np.zeros((8, 8, 3), np.uint8)),
    figure=lambda f: save_figure(Figure(), [f / "a.png"], dict(title="", caption="")),
)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
@pytest.mark.parametrize("kind", LEAVE_FILES)
def test_modes_follow_the_umask_and_the_folders_group(tmp_path: Path, kind: str, umask: int):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    before = os.umask(umask)
    try:
        LEAVE_FILES[kind](shared)
    finally:
        os.umask(before)
    written = list(shared.rglob("*"))
    assert written
    for path in written:
        mode, usual = path.stat().st_mode, 0o2777 if path.is_dir() else 0o666
        assert stat.S_IMODE(mode) == usual & ~umask, path
        assert path.stat().st_gid == shared.stat().st_gid
