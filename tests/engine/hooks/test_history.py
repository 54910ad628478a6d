"""Checkpoints and memory do not grow with the iterations, and the log stays what it was."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from milan_mm.engine.hooks.history import HistoryHook
from milan_mm.run.start.origin import Start
from tests.run.pretraining_runs import logged
from tests.run.tiny_runs import run_tiny, tiny_config

CUSTOM = [
    dict(data_src="loss", log_name="long", method_name="mean", window_size=7),
    dict(data_src="loss", log_name="whole", method_name="mean", window_size="global"),
]


def run(
    work_dir: Path,
    iterations: int = 60,
    resume: bool = False,
    custom: tuple = (),
) -> Runner:
    """A run of a window of 5, with a line for each iteration and checkpoints at 30 and the end."""
    cfg = tiny_config("iterations", work_dir)
    cfg.train_cfg.max_iters = iterations
    cfg.param_scheduler = []
    cfg.default_hooks.logger = dict(type="LoggerHook", interval=1, log_metric_by_epoch=False)
    cfg.default_hooks.checkpoint.interval = 30
    cfg.log_processor = dict(window_size=5, by_epoch=False, custom_cfg=list(custom))
    return run_tiny(cfg, Start(resume="auto") if resume else None)


def values(work_dir: Path) -> list[dict]:
    """The logged numbers but those of the clock."""
    return [{k: v for k, v in row.items() if "time" not in k} for row in logged(work_dir)]


def lengths(checkpoint: Path) -> dict[str, int]:
    content = torch.load(checkpoint, weights_only=False)
    return {n: len(h.data[0]) for n, h in content["message_hub"]["log_scalars"].items()}


def test_a_checkpoint_holds_the_values_that_the_log_reads(tmp_path: Path):
    run(tmp_path)
    for iteration in (30, 60):
        assert set(lengths(tmp_path / f"iter_{iteration}.pth").values()) == {5}
    first, last = ((tmp_path / f"iter_{i}.pth").stat().st_size for i in (30, 60))
    assert abs(last - first) < 200


def test_memory_holds_no_more(tmp_path: Path):
    runner = run(tmp_path)
    assert {len(h.data[0]) for h in runner.message_hub.log_scalars.values()} == {5}


@pytest.mark.parametrize("custom", [(), tuple(CUSTOM)], ids=["plain", "custom"])
def test_the_log_is_that_of_a_run_that_keeps_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, custom: tuple
):
    run(tmp_path / "ours", custom=custom)
    monkeypatch.setattr(HistoryHook, "_forget", lambda *_: None)  # as mmengine has it
    run(tmp_path / "theirs", custom=custom)
    assert lengths(tmp_path / "theirs/iter_60.pth")["train/lr"] == 60
    assert values(tmp_path / "ours") == values(tmp_path / "theirs")
    if custom:
        assert lengths(tmp_path / "ours/iter_60.pth")["train/loss"] == 60  # of the whole run
        assert lengths(tmp_path / "ours/iter_60.pth")["train/lr"] == 7


def test_a_resumed_run_logs_what_the_undisturbed_one_does(tmp_path: Path):
    run(tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole/iter_30.pth", tmp_path / "parts")
    run(tmp_path / "parts", resume=True)
    assert values(tmp_path / "parts") == values(tmp_path / "whole")[30:]
