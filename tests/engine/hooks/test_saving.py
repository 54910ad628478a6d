"""A checkpoint that cannot be written costs no other, and `last_checkpoint` can be moved."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, MODELS

from milan_mm.engine import checkpoints
from milan_mm.engine.checkpoints import AtomicLocalBackend
from milan_mm.run.start.origin import Start
from tests.run.tiny_runs import UPDATES, Weights, run_tiny, tiny_config


@METRICS.register_module(name="Rising", force=True)
class Rising(BaseMetric):
    """Better at each validation."""

    value = 0

    def process(self, *_: object) -> None: ...

    def compute_metrics(self, _: list) -> dict[str, float]:
        Rising.value += 1
        return dict(accuracy=float(Rising.value))


@MODELS.register_module(name="Predicting", force=True)
class Predicting(Weights):
    """Predicts nothing."""

    def forward(self, x: list, mode: str) -> dict | list:
        return super().forward(x, mode) if mode == "loss" else [None]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those between the tries to write, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr(checkpoints, "sleep", found.append)
    monkeypatch.setattr(AtomicLocalBackend, "_folders", set())
    return found


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int], bool], code: int) -> None:
    """Let writes fail as a disk does.

    Args:
        fails: Of the name of a file and the number of the write of it, from 1.
    """
    counts: dict[str, int] = {}
    write = checkpoints.write_whole

    def maybe(path: Path, content: bytes) -> None:
        counts[path.name] = counts.get(path.name, 0) + 1
        if fails(path.name, counts[path.name]):
            raise OSError(code, os.strerror(code), str(path))
        write(path, content)

    monkeypatch.setattr(checkpoints, "write_whole", maybe)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


def test_a_moved_work_directory_resumes(tmp_path: Path):
    cfg = tiny_config("epochs", tmp_path / "before")
    cfg.default_hooks.checkpoint.interval = 8
    run_tiny(cfg)
    text = (tmp_path / "before/last_checkpoint").read_text()
    assert text == f"iter_{UPDATES}.pth"
    (tmp_path / f"before/iter_{UPDATES}.pth").unlink()
    (tmp_path / "before/last_checkpoint").write_text("iter_8.pth")
    shutil.move(tmp_path / "before", tmp_path / "after")
    runner = run_tiny(tiny_config("epochs", tmp_path / "after"), Start(resume="auto"))
    assert runner.iter == UPDATES
    assert names(tmp_path / "after")[:2] == ["iter_10.pth", "iter_11.pth"]
    assert not (tmp_path / "before").exists()


@pytest.mark.parametrize("keep", [1, 2])
def test_an_old_checkpoint_goes_when_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], keep: int
):
    cfg = tiny_config("epochs", tmp_path)
    cfg.default_hooks.checkpoint.max_keep_ckpts = keep
    failing(monkeypatch, lambda name, _: name == "iter_4.pth", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        run_tiny(cfg)
    assert names(tmp_path) == [f"iter_{i}.pth" for i in range(4 - keep, 4)]
    assert (tmp_path / "last_checkpoint").read_text() == "iter_3.pth"
    assert torch.load(tmp_path / "iter_3.pth", weights_only=False)["meta"]["iter"] == 3
    assert waits == list(checkpoints.WAITS)
    monkeypatch.undo()  # there is room again
    cfg = tiny_config("epochs", tmp_path)
    cfg.default_hooks.checkpoint.max_keep_ckpts = keep
    run_tiny(cfg, Start(resume="auto"))
    assert names(tmp_path) == [f"iter_{i}.pth" for i in range(UPDATES - keep + 1, UPDATES + 1)]


def validated(folder: Path, schedule: str) -> Config:
    """A recipe whose validations rise."""
    Rising.value = 0
    cfg = tiny_config(schedule, folder, model=dict(type="Predicting"))
    cfg.val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(type="TinyNumbers"))
    cfg.val_dataloader.sampler = dict(type="DefaultSampler", shuffle=False)
    cfg.val_evaluator, cfg.val_cfg = dict(type="Rising"), {}
    return cfg


def test_the_best_checkpoint_stays_until_a_better_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
):
    cfg = validated(tmp_path, "epochs")
    checkpoint = cfg.default_hooks.checkpoint
    checkpoint.update(save_best="accuracy", rule="greater", by_epoch=True)
    failing(monkeypatch, lambda name, _: name == "best_accuracy_epoch_3.pth", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        run_tiny(cfg)
    assert [n for n in names(tmp_path) if n.startswith("best")] == ["best_accuracy_epoch_2.pth"]


def test_a_checkpoint_that_always_has_the_same_name_stays(tmp_path: Path):
    cfg = tiny_config("iterations", tmp_path)
    cfg.default_hooks.checkpoint.update(filename_tmpl="latest.pth", max_keep_ckpts=1)
    run_tiny(cfg)
    assert names(tmp_path) == ["latest.pth"]


def test_the_best_weights_may_come_in_the_middle_of_an_update_and_its_checkpoint_at_the_end(
    tmp_path: Path,
):
    cfg = validated(tmp_path, "iterations")
    cfg.pop("total_batch")  # whose intervals would be those of updates
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.train_cfg.val_interval = 6
    cfg.default_hooks.checkpoint.update(save_best="accuracy", rule="greater", interval=4)
    run_tiny(cfg)
    assert "best_accuracy_iter_6.pth" not in names(tmp_path)  # there were better ones
    saved = [name for name in names(tmp_path) if not name.startswith("best")]
    assert saved == sorted(f"iter_{i}.pth" for i in (4, 8, 12, 16))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_a_disk_that_is_back_within_a_minute_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], code: int
):
    failing(monkeypatch, lambda name, number: name == "iter_3.pth" and number < 4, code)
    runner = run_tiny(tiny_config("epochs", tmp_path))
    assert runner.iter == UPDATES and len(names(tmp_path)) == UPDATES
    assert waits == list(checkpoints.WAITS[:3]) and sum(checkpoints.WAITS) == 60


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_what_another_try_does_not_change_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], code: int
):
    failing(monkeypatch, lambda name, _: name == "iter_3.pth", code)
    with pytest.raises(OSError, match=os.strerror(code)):
        run_tiny(tiny_config("epochs", tmp_path))
    assert waits == [] and names(tmp_path) == ["iter_1.pth", "iter_2.pth"]


def test_a_folder_that_is_gone_is_waited_for_and_not_made_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(AtomicLocalBackend, "_folders", set())
    backend, folder = AtomicLocalBackend(), tmp_path / "run"
    backend.put(b"1", folder / "a")
    folder.rename(tmp_path / "elsewhere")  # as an unmounted disk
    waited: list[float] = []

    def back(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            (tmp_path / "elsewhere").rename(folder)

    monkeypatch.setattr(checkpoints, "sleep", back)
    backend.put(b"2", folder / "b")
    assert len(waited) == 3 and sorted(os.listdir(folder)) == ["a", "b"]
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="the folder is gone"):
        backend.put(b"3", folder / "c")
    assert not folder.exists()


def test_a_checkpoint_that_cannot_be_removed_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cfg = tiny_config("epochs", tmp_path)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2

    def refuse(path: str, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("mmengine.fileio.backends.local_backend.os.remove", refuse)
    runner = run_tiny(cfg)
    assert runner.iter == UPDATES


def test_last_checkpoint_is_replaced_in_one_step(tmp_path: Path, monkeypatch, waits):
    failing(
        monkeypatch,
        lambda name, number: name == "last_checkpoint" and number > 2,
        errno.EROFS,
    )
    with pytest.raises(OSError, match="Read-only"):
        run_tiny(tiny_config("epochs", tmp_path))
    assert (tmp_path / "last_checkpoint").read_text() == "iter_2.pth"
