"""A run that has no room for a checkpoint ends before it begins."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS, OPTIMIZERS, DefaultScope

from milan_mm.errors import UserError
from milan_mm.run.checks import space
from tests.run.tiny_runs import Weights, run_tiny, tiny_config

WIDTH = 500_000  # numbers: 2 MB


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [
        (dict(type="SGD", lr=0.1), 0),
        (dict(type="SGD", lr=0.1, momentum=0.9), 1),
        (dict(type="AdamW", lr=0.1), 2),
        (dict(type="AdamW", lr=0.1, amsgrad=True), 3),
        (dict(type="milan_mm.Lars", lr=0.1, momentum=0.9), 1),
    ],
)
def test_the_size_is_that_of_the_file(tmp_path: Path, optimizer: dict, copies: int):
    cfg = tiny_config("epochs", tmp_path, model=dict(width=WIDTH))
    cfg.default_hooks.checkpoint.update(interval=100)
    cfg.optim_wrapper = dict(optimizer=optimizer)
    runner = run_tiny(cfg)
    size = space.checkpoint_size(runner, with_optimizer=True)
    assert size == pytest.approx(4 * WIDTH * (1 + copies), rel=0.01)
    assert (tmp_path / "iter_16.pth").stat().st_size == pytest.approx(size, rel=0.03)


def test_an_optimizer_of_the_default_scope_is_found():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        assert space._copies(dict(type="Lamb", lr=0.1)) == 0  # mmpretrain's own: nobody knows


class Lion(torch.optim.SGD):
    """One mean, for two betas."""

    def __init__(self, params: Iterable, lr: float, betas: tuple = (0.9, 0.99)) -> None:
        super().__init__(params, lr)


@MODELS.register_module(name="ExtraState", force=True)
class ExtraState(Weights):
    """Has something in its state besides tensors, as torch allows."""

    def get_extra_state(self) -> dict:
        return dict(version=1)

    def set_extra_state(self, state: dict) -> None: ...


def test_a_run_is_not_refused_for_what_nobody_knows_the_size_of(tmp_path: Path, monkeypatch):
    cfg = tiny_config("epochs", tmp_path, model=dict(type="ExtraState", width=WIDTH))
    OPTIMIZERS.register_module(module=Lion, name="LionOfTests", force=True)
    cfg.optim_wrapper = dict(optimizer=dict(type="LionOfTests", lr=0.1))
    free(monkeypatch, 5e6)  # for the weights, and one mean
    run_tiny(cfg)


def free(monkeypatch: pytest.MonkeyPatch, amount: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(amount)))


def test_no_room_for_one_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch):
    cfg = tiny_config("epochs", tmp_path / "run", model=dict(width=WIDTH))
    free(monkeypatch, 3e6)
    with pytest.raises(
        UserError, match=r"run' has 2\.9 MiB free, and a checkpoint needs 3\.8 MiB: make room"
    ):
        run_tiny(cfg)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("amount", "keep", "line"),
    [
        (11e6, 3, "keeps 3 checkpoints of 3.8 MiB, 15.3 MiB at a time"),
        (20e6, 3, None),
        (20e6, -1, "saves 16 checkpoints of 3.8 MiB, 61.0 MiB at a time"),
        (70e6, -1, None),
    ],
)
def test_room_for_some_is_a_warning(
    tmp_path: Path, monkeypatch, amount: float, keep: int, line: str | None
):
    cfg = tiny_config("epochs", tmp_path, model=dict(width=WIDTH))
    cfg.default_hooks.checkpoint.max_keep_ckpts = keep
    free(monkeypatch, amount)
    run_tiny(cfg)
    (log,) = tmp_path.glob("*/*.log")
    assert ("free: the run" in log.read_text()) is bool(line)
    assert line is None or line in log.read_text()
