"""Runs of configs that list no hook of this package: what is left when a number is not finite."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from milan_mm.engine.hooks.finite import FiniteHook
from milan_mm.errors import UserError
from milan_mm.run.replay import replay_report
from tests.helpers import forget_runs
from tests.run.runs import Nothing
from tests.run.tiny_runs import Weights, run_tiny, tiny_config

BAD = 7  # iteration, from 1


@HOOKS.register_module(name="SpoilImage", force=True)
class SpoilImage(Hook):
    """The second image of one batch is not a number."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict) -> None:
        if runner.iter + 1 == BAD:
            data_batch["x"][1] = torch.tensor(float("nan"))


@MODELS.register_module(name="TinyJudged", force=True)
class Judged(Weights):
    """Predicts nothing."""

    def forward(self, x: list[Tensor], mode: str) -> Any:
        return super().forward(x, mode) if mode == "loss" else [BaseDataElement() for _ in x]


@METRICS.register_module(name="NotANumber", force=True)
class NotANumber(Nothing):
    def compute_metrics(self, _: list) -> dict[str, float]:
        return dict(nothing=float("nan"))


def spoilt(folder: Path, **fields: object) -> tuple[Config, str]:
    """The config of a run that was stopped, and why."""
    cfg = tiny_config("iterations", folder / "run", **fields)
    cfg.custom_hooks = [dict(type="SpoilImage"), *cfg.custom_hooks]
    with pytest.raises(FloatingPointError) as caught:
        run_tiny(cfg, command="python tools/train.py tiny.py --launcher pytorch --fsdp")
    return cfg, str(caught.value)


def test_every_checkpoint_is_finite_averages_of_the_weights_too(tmp_path: Path):
    ema = dict(type="EMAHook", momentum=0.5)
    _, message = spoilt(tmp_path, custom_hooks=[ema, dict(type="WatchHook")])
    assert message.startswith(f"the loss is nan (iteration {BAD})")
    last = Path((tmp_path / "run/last_checkpoint").read_text())
    assert last.name == f"iter_{BAD - 1}.pth"
    saved = sorted((tmp_path / "run").glob("iter_*.pth"))
    assert len(saved) == BAD - 1
    for path in saved:
        content = torch.load(path, weights_only=False)
        tensors = [*content["state_dict"].values(), *content["ema_state_dict"].values()]
        assert all(bool(tensor.isfinite().all()) for tensor in tensors)


def test_the_command_that_repeats_the_step_is_for_one_process(tmp_path: Path):
    cfg, message = spoilt(tmp_path)
    report = tmp_path / f"run/nonfinite_iter_{BAD}.pth"
    assert message.endswith(f"step: python tools/train.py tiny.py --replay {report}")
    forget_runs()
    *_, loss, first = replay_report(cfg, report)
    assert loss == "loss in the run: nan, now: nan (the same)"
    assert first == "first nan: the output of data_preprocessor"


@MODELS.register_module(name="TinyTaught", force=True)
class Taught(Weights):
    """Has a frozen teacher beside its modules, the second part of which makes infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_modules = (nn.Sequential(nn.Identity(), nn.Threshold(0, float("inf"))),)

    def forward(self, x: list[Tensor], mode: str) -> Any:
        self.hidden_modules[0](torch.zeros(1))
        return super().forward(x, mode)


def test_of_a_teacher_only_what_is_not_finite_is_in_the_table(tmp_path: Path):
    cfg, _ = spoilt(tmp_path, model=dict(type="TinyTaught"))
    forget_runs()
    lines = replay_report(cfg, tmp_path / f"run/nonfinite_iter_{BAD}.pth")
    assert [line.split(",")[0] for line in lines if ", output" in line] == [
        *("data_preprocessor", "1", "the model", "the model")
    ]
    assert "left out: 1 of the frozen teacher's tensors, which are finite" in lines


def test_a_report_of_another_model_or_another_file_is_refused(tmp_path: Path):
    cfg, _ = spoilt(tmp_path)
    other = copy.deepcopy(cfg)
    other.model.width = 5
    with pytest.raises(UserError, match="the report is of another model"):
        replay_report(other, tmp_path / f"run/nonfinite_iter_{BAD}.pth")
    with pytest.raises(UserError, match="is not the report of a run that stopped"):
        replay_report(cfg, tmp_path / f"run/iter_{BAD - 1}.pth")


def test_a_metric_that_is_not_a_number_stops_nothing(tmp_path: Path):
    loader = dict(
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(type="TinyNumbers"),
    )
    cfg = tiny_config("iterations", tmp_path, train_cfg=dict(val_interval=4))
    cfg.merge_from_dict(
        dict(val_dataloader=loader, val_cfg={}, val_evaluator=dict(type="NotANumber"))
    )
    cfg.model.type = "TinyJudged"
    cfg.default_hooks.checkpoint.save_best = "nothing"
    cfg.default_hooks.checkpoint.rule = "less"
    runner = run_tiny(cfg)
    assert runner.iter == runner.max_iters and not list(tmp_path.glob("best_*"))


def test_a_healthy_run_is_the_same_without_the_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    guarded = run_tiny(tiny_config("epochs", tmp_path / "guarded"))
    for name in ("before_train", "before_train_iter", "after_train_iter", "after_train_epoch"):
        monkeypatch.setattr(FiniteHook, name, Hook.__dict__[name])
    plain = run_tiny(tiny_config("epochs", tmp_path / "plain"))
    one, other = guarded.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
