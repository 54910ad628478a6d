"""Images per second, waiting and updates are what a stopwatch and a pencil give."""

from types import SimpleNamespace

import pytest
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from milan_mm.engine.hooks.speed import SpeedHook


class Steps:
    """A run of 2 processes with 8 images each, which is told how long its iterations take."""

    def __init__(self, iterations_per_update: int = 1) -> None:
        self.hook, self.hub = SpeedHook(), MessageHub("steps")
        self.hub.update_info("iterations_per_update", iterations_per_update)
        self.runner = SimpleNamespace(
            message_hub=self.hub,
            hooks=[LoggerHook(interval=2)],
            train_dataloader=SimpleNamespace(
                batch_sampler=SimpleNamespace(batch_size=8), __len__=lambda: 100
            ),
            world_size=2,
            iter=0,
        )
        self.runner.train_dataloader = type("Loader", (), dict(__len__=lambda _: 100))()
        self.runner.train_dataloader.batch_sampler = SimpleNamespace(batch_size=8)

    def step(self, time: float, data_time: float = 0.0) -> None:
        self.hub.update_scalar("train/time", time)
        self.hub.update_scalar("train/data_time", data_time)
        self.hook.after_train_iter(self.runner, self.runner.iter)
        self.runner.iter += 1

    def logged(self, name: str) -> float:
        return self.hub.get_scalar(f"train/{name}").mean(50)


def test_each_line_is_about_the_time_since_the_one_before():
    steps = Steps()
    for time in (1.0, 3.0):
        steps.step(time, data_time=0.5)
    assert steps.logged("images_per_second") == pytest.approx(32 / 4)
    assert steps.logged("waiting") == pytest.approx(0.25)
    for _ in range(2):
        steps.step(0.5)
    assert steps.logged("images_per_second") == pytest.approx(32)
    assert steps.logged("waiting") == 0


def test_the_iteration_after_a_validation_does_not_count():
    steps = Steps()
    steps.hook.after_val(steps.runner)
    steps.step(100.0, data_time=100.0)
    steps.step(1.0)
    assert steps.logged("images_per_second") == pytest.approx(16)


def test_updates_are_logged_where_they_are_not_iterations():
    steps = Steps(iterations_per_update=4)
    for _ in range(8):
        steps.step(1.0)
    assert steps.logged("update") == 2
    plain = Steps()
    for _ in range(2):
        plain.step(1.0)
    assert "train/update" not in plain.hub.log_scalars


def test_a_loop_that_logs_no_times_is_survived():
    steps = Steps()
    steps.hook.after_train_iter(steps.runner, 1)
    assert "train/waiting" not in steps.hub.log_scalars
