"""Configs that state no total batch count their schedule in iterations, as mmengine does."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from milan_mm.run.start.origin import Start
from tests.helpers import forget_runs
from tests.run.tiny_runs import UPDATES, WatchHook, run_tiny, tiny_config

PARTS = 4
OPEN_END = [dict(type="CosineAnnealingLR", by_epoch=False, eta_min=0.0)]


def own_config(schedule: str, folder: Path, **fields: object) -> Config:
    """Updates of 4 parts of 2 images each, chosen by the config itself."""
    fields |= {"train_dataloader.batch_size": 2, "optim_wrapper.accumulative_counts": PARTS}
    cfg = tiny_config(schedule, folder, **fields)
    cfg.pop("total_batch")
    if schedule == "iterations":
        cfg.train_cfg.max_iters *= PARTS
        cfg.param_scheduler[0].end *= PARTS
        cfg.param_scheduler[-1].update(begin=PARTS**2, end=UPDATES * PARTS)
    return cfg


@pytest.mark.parametrize(
    ("schedule", "fields"),
    [
        ("epochs", {}),  # of 18 iterations, which are no whole number of updates
        ("mixed", {}),
        ("iterations", {}),
        ("iterations", dict(param_scheduler=OPEN_END)),
    ],
)
def test_rates_are_those_of_mmengine(schedule: str, fields: dict, tmp_path: Path):
    cfg = own_config(schedule, tmp_path / "theirs")
    cfg.update(fields)
    forget_runs()
    Runner.from_cfg(Config(dict(cfg.to_dict(), launcher="none"))).train()
    theirs = [*WatchHook.rates]
    cfg.work_dir = str(tmp_path / "ours")
    run_tiny(cfg)
    assert WatchHook.rates == theirs != []


def test_they_are_resumed_where_they_were(tmp_path: Path):
    run_tiny(own_config("iterations", tmp_path / "whole"))
    rates = [*WatchHook.rates]
    start = Start(resume=str(tmp_path / "whole/iter_24.pth"))
    run_tiny(own_config("iterations", tmp_path / "rest"), start)
    assert WatchHook.rates == rates[24 // PARTS :]


def test_their_plan_is_in_iterations(tmp_path: Path):
    run_tiny(own_config("iterations", tmp_path))
    (log,) = tmp_path.glob("*/*.log")
    assert "plan: 64 iterations of 2 images, 3.76 epochs of 17" in log.read_text()
