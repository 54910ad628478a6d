"""A run that waits for its images says so, once and with numbers."""

import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.configs import load
from milan_mm.engine.hooks.loading_time import LoadingTimeHook
from milan_mm.registry import HOOKS


class Steps:
    """A run that is told how long its iterations take."""

    def __init__(self, hook: LoadingTimeHook) -> None:
        self.hook, self.warnings = hook, []
        self.runner = SimpleNamespace(
            message_hub=MessageHub("steps"),
            logger=SimpleNamespace(warning=self.warnings.append),
            train_dataloader=SimpleNamespace(num_workers=3),
        )

    def epoch(self, *data_times: float) -> None:
        """Iterations of 1 s, of which so much is waiting."""
        for batch_idx, data_time in enumerate(data_times):
            self.runner.message_hub.update_scalar("train/data_time", data_time)
            self.runner.message_hub.update_scalar("train/time", 1.0)
            self.hook.after_train_iter(self.runner, batch_idx)


@pytest.fixture
def steps() -> Steps:
    return Steps(LoadingTimeHook(limit=0.2, interval=4, warm_up=1))


def test_waiting_above_the_limit_is_reported_with_share_and_workers(steps):
    steps.epoch(0, 0.1, 0.4, 0.4, 0.1)
    (warning,) = steps.warnings
    assert warning.startswith("training waits for its images: 25% of the time of 4 iterations. 3 ")
    assert "tools/shrink_images.py" in warning


def test_waiting_below_the_limit_is_not_reported(steps):
    steps.epoch(0, 0.7, 0, 0, 0)
    assert not steps.warnings


def test_iterations_of_short_epochs_add_up(steps):
    for _ in range(2):
        steps.epoch(0, 0.5, 0.5)
    assert len(steps.warnings) == 1


def test_it_is_reported_once(steps):
    steps.epoch(*[0.5] * 20)
    assert len(steps.warnings) == 1


def test_a_late_wait_is_not_hidden_by_quick_iterations_before(steps):
    steps.epoch(0, *[0.0] * 40, *[0.5] * 4)
    assert len(steps.warnings) == 1


def test_iterations_in_which_workers_start_do_not_count(steps):
    for _ in range(4):
        steps.epoch(0.9, 0.1)
    assert not steps.warnings


def test_the_iteration_after_a_validation_does_not_count(steps):
    steps.epoch(0, 0, 0, 0)
    steps.hook.after_val(steps.runner)
    steps.runner.message_hub.update_scalar("train/data_time", 0.9)
    steps.hook.after_train_iter(steps.runner, 4)
    steps.epoch(0, 0.1)
    assert not steps.warnings


class Line(BaseModel):
    """Takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        return dict(loss=self.linear(inputs).mean())


class SlowData(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        time.sleep(0.02)
        return dict(inputs=torch.zeros(1))


def test_a_run_on_slow_data_is_warned(tmp_path, monkeypatch):
    warnings = []
    runner = Runner(
        model=Line(),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=SlowData(),
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="default_collate"),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        custom_hooks=[HOOKS.build(dict(type="LoadingTimeHook", interval=4, warm_up=2))],
        default_hooks=dict(checkpoint=None),
        experiment_name="slow-data",
    )
    monkeypatch.setattr(runner.logger, "warning", warnings.append)
    runner.train()
    assert len([w for w in warnings if str(w).startswith("training waits for its images")]) == 1


@pytest.mark.parametrize(
    "recipe",
    [
        "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k",
        "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
        "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
    ],
)
def test_the_recipes_watch_their_loading(recipe, repo_root):
    hooks = load(repo_root / f"configs/{recipe}.py").custom_hooks
    assert "milan_mm.LoadingTimeHook" in [hook.type for hook in hooks]


def test_a_loop_that_logs_no_times_is_survived():
    """mmpretrain's vis_scheduler.py runs the hooks of a recipe without IterTimerHook."""
    steps = Steps(LoadingTimeHook(interval=1, warm_up=0))
    steps.hook.after_train_iter(steps.runner, 0)
    assert not steps.warnings
