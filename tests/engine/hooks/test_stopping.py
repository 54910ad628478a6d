"""Signals are sent to this process while tiny runs train in it."""

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from milan_mm.errors import Stopped
from milan_mm.run.start.resume import Start
from tests.run.tiny_runs import UPDATES, WatchHook, run_tiny, tiny_config

SIGNALS = ["SIGTERM", "SIGUSR1", "SIGINT"]


@HOOKS.register_module(name="SignalHook", force=True)
class SignalHook(Hook):
    """Sends signals to this process when a method of hooks is called for the nth time."""

    plan: ClassVar[tuple] = ("", "before_train", 0)

    def __init__(self) -> None:
        self.calls = 0
        setattr(self, self.plan[1], self._called)

    def _called(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls == self.plan[2]:
            for name in self.plan[0].split():
                os.kill(os.getpid(), signal.Signals[name])


def run(schedule: str, folder: Path, *plan: Any, start: Start | None = None, **fields: Any) -> Any:
    """Train, and send signals; returns the runner, or how it was stopped."""
    SignalHook.plan = plan or ("", "before_train", 0)
    cfg = tiny_config(schedule, folder, **fields)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type="SignalHook")]
    try:
        return run_tiny(cfg, start)
    except Stopped as stop:
        return stop


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


def weights(path: Path) -> torch.Tensor:
    return torch.load(path, weights_only=False)["state_dict"]["body"]


RARELY = {"default_hooks.checkpoint.interval": 100}


@pytest.mark.parametrize("schedule", ["epochs", "mixed", "iterations"])
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("update", [1, 4, 6])  # 4 ends an epoch
def test_a_signal_ends_the_run_after_its_update_with_a_checkpoint_to_go_on_from(
    tmp_path, schedule, name, update
):
    run(schedule, tmp_path / "whole", **RARELY)
    stop = run(schedule, tmp_path / "run", name, "before_train_iter", update, **RARELY)
    assert stop.code == (130 if name == "SIGINT" else 75)
    saved = tmp_path / "run" / f"iter_{update}.pth"
    assert files(tmp_path / "run") == [saved.name]
    assert Path((tmp_path / "run/last_checkpoint").read_text()).name == saved.name
    assert str(stop) == (
        f"stopped by {name} after {update} of {UPDATES} updates: saved {saved}; "
        "the same command with --resume goes on from there"
    )
    run(schedule, tmp_path / "run", start=Start(resume="auto"), **RARELY)
    assert len(WatchHook.images) == UPDATES - update
    last = f"iter_{UPDATES}.pth"
    assert torch.equal(weights(tmp_path / "whole" / last), weights(tmp_path / "run" / last))
    assert files(tmp_path / "run") == [last]
