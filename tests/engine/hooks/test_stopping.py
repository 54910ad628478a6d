"""Signals are sent to this process while tiny runs train in it."""

import functools
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, MODELS

from milan_mm import signals
from milan_mm.engine.checkpoints import AtomicLocalBackend
from milan_mm.engine.hooks import stopping
from milan_mm.errors import Stopped
from milan_mm.run.start.origin import Start
from tests.forked import in_processes
from tests.run.tiny_runs import UPDATES, WatchHook, Weights, run_tiny, tiny_config

SIGNALS = ["SIGTERM", "SIGUSR1", "SIGINT"]


@HOOKS.register_module(name="SignalHook", force=True)
class SignalHook(Hook):
    """Sends signals to this process when a method of hooks is called for the nth time."""

    plan: ClassVar[tuple] = ("", "before_train", 0)
    send: ClassVar = staticmethod(os.kill)

    def __init__(self) -> None:
        self.calls = 0
        setattr(self, self.plan[1], self._called)

    def _called(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls == self.plan[2]:
            for name in self.plan[0].split():
                self.send(os.getpid(), signal.Signals[name])


def run(
    schedule: str,
    folder: Path,
    *plan: Any,
    start: Start | None = None,
    minutes: int = 0,
    launcher: str = "none",
    **fields: Any,
) -> Any:
    """Train, and send signals; returns the runner, or how it was stopped."""
    SignalHook.plan = plan or ("", "before_train", 0)
    cfg = tiny_config(schedule, folder, **fields)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type="SignalHook")]
    try:
        return run_tiny(cfg, start, minutes, launcher=launcher)
    except Stopped as stop:
        return stop


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


def weights(path: Path) -> torch.Tensor:
    return torch.load(path, weights_only=False)["state_dict"]["body"]


RARELY = {"default_hooks.checkpoint.interval": 100}


UPDATES_OF_SIGNALS = [1, 4, 6]  # 4 ends an epoch
# each schedule, signal and update meets each of the others once
SIGNALLED = [
    (schedule, SIGNALS[(i + j) % 3], update)
    for i, schedule in enumerate(["epochs", "mixed", "iterations"])
    for j, update in enumerate(UPDATES_OF_SIGNALS)
]


@pytest.fixture(scope="module")
def last_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], torch.Tensor]:
    """Of the run of a schedule that nothing stops."""

    @functools.cache
    def trained(schedule: str) -> torch.Tensor:
        folder = tmp_path_factory.mktemp(schedule)
        run(schedule, folder, **RARELY)
        return weights(folder / f"iter_{UPDATES}.pth")

    return trained


@pytest.mark.parametrize(("schedule", "name", "update"), SIGNALLED)
def test_a_signal_ends_the_run_after_its_update_with_a_checkpoint_to_go_on_from(
    tmp_path, last_weights, schedule, name, update
):
    expected = last_weights(schedule)
    stop = run(schedule, tmp_path, name, "before_train_iter", update, **RARELY)
    assert stop.code == (130 if name == "SIGINT" else 75)
    saved = tmp_path / f"iter_{update}.pth"
    assert files(tmp_path) == [saved.name]
    assert Path((tmp_path / "last_checkpoint").read_text()).name == saved.name
    assert str(stop) == (
        f"stopped by {name} after {update} of {UPDATES} updates: saved {saved}; "
        "the same command with --resume goes on from there"
    )
    run(schedule, tmp_path, start=Start(resume="auto"), **RARELY)
    assert len(WatchHook.images) == UPDATES - update
    last = f"iter_{UPDATES}.pth"
    assert torch.equal(expected, weights(tmp_path / last))
    assert files(tmp_path) == [last]


def test_the_checkpoint_of_a_signal_is_not_counted_and_the_next_regular_one_replaces_it(tmp_path):
    hook = dict(interval=1, by_epoch=True, max_keep_ckpts=2)
    keeps_two = {f"default_hooks.checkpoint.{name}": value for name, value in hook.items()}
    run("epochs", tmp_path, "SIGTERM", "before_train_iter", 10, **keeps_two)
    assert files(tmp_path) == ["epoch_1.pth", "epoch_2.pth", "iter_10.pth"]
    again = Start(resume="auto")
    run("epochs", tmp_path, "SIGTERM", "before_train_iter", 1, start=again, **keeps_two)
    assert files(tmp_path) == ["epoch_1.pth", "epoch_2.pth", "iter_11.pth"]
    run("epochs", tmp_path, start=again, **keeps_two)
    assert files(tmp_path) == ["epoch_3.pth", "epoch_4.pth"]


def test_a_signal_just_after_a_regular_checkpoint_saves_no_second_one(tmp_path):
    stop = run("iterations", tmp_path, "SIGTERM", "after_train_iter", 6)
    assert files(tmp_path)[-1] == "iter_6.pth" and "iter_6.pth" in str(stop)
    assert not torch.load(tmp_path / "iter_6.pth", weights_only=False)["message_hub"][
        "runtime_info"
    ].get("extra_checkpoints")


def test_an_accumulated_update_is_finished(tmp_path):
    parts = {"train_dataloader.batch_size": 2, **RARELY}  # four iterations for each update
    run("epochs", tmp_path, "SIGTERM", "before_train_iter", 6, **parts)
    assert files(tmp_path) == ["iter_8.pth"]


@pytest.mark.long
def test_all_processes_and_their_workers_outlive_a_signal_to_one_and_its_workers(tmp_path):
    workers = {"train_dataloader.num_workers": 2, "train_dataloader.batch_size": 4, **RARELY}

    def to_all(pid: int, number: int) -> None:
        # by another process: workers end when their own one says so
        subprocess.run(["kill", f"-{number}", "--", f"-{pid}"], start_new_session=True)
        time.sleep(0.5)  # torch notices workers that have died

    def stopped(rank: int) -> int:
        os.setpgid(0, 0)
        SignalHook.send = staticmethod(to_all)
        plan = ("SIGTERM SIGINT", "before_train_iter", 5) if rank else ()
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # mmengine warns without
        return run("epochs", tmp_path / "run", *plan, launcher="pytorch", **workers).code

    assert in_processes(2, stopped, tmp_path) == [75, 75]
    assert files(tmp_path / "run") == ["iter_5.pth"]


def test_the_highest_of_several_signals_counts(tmp_path):
    stop = run("epochs", tmp_path, "SIGINT SIGTERM SIGINT", "before_train_iter", 2)
    assert stop.code == 75 and str(stop).startswith("stopped by SIGTERM after 2 of 16")


def test_a_signal_in_the_last_update_lets_the_training_finish(tmp_path):
    runner = run("epochs", tmp_path, "SIGTERM", "before_train_iter", UPDATES)
    assert runner.iter == UPDATES


def test_before_the_first_update_a_signal_ends_the_process(tmp_path):
    stop = run("epochs", tmp_path, "SIGTERM", "before_train", 1)
    assert stop.code == 128 + signal.SIGTERM
    assert str(stop) == "stopped by SIGTERM before the first update"
    with pytest.raises(KeyboardInterrupt):
        run("epochs", tmp_path, "SIGINT", "before_train", 1)


def test_a_second_ctrl_c_interrupts(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "SECONDS_OF_ONE", 0.0)
    with pytest.raises(KeyboardInterrupt) as stop:
        run("epochs", tmp_path, "SIGINT SIGINT", "before_train_iter", 2, **RARELY)
    assert not isinstance(stop.value, Stopped) and not files(tmp_path)


def test_ignored_signals_and_handlers_of_others_stay(tmp_path):
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    noted = []
    signal.signal(signal.SIGUSR2, lambda *_: noted.append(1))
    try:
        runner = run("epochs", tmp_path, "SIGUSR1 SIGUSR2", "before_train_iter", 2)
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    assert runner.iter == UPDATES and noted == [1]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_without_a_checkpoint_hook_nothing_is_saved(tmp_path):
    no_hook = {"default_hooks.checkpoint": None}
    stop = run("epochs", tmp_path, "SIGUSR1", "before_train_iter", 2, **no_hook)
    assert stop.code == 128 + signal.SIGUSR1 and "no CheckpointHook" in str(stop)
    assert not files(tmp_path)


class Counted(BaseMetric):
    """Counts validations."""

    done: ClassVar[int] = 0

    def process(self, *_: object) -> None: ...

    def compute_metrics(self, _: list) -> dict[str, float]:
        Counted.done += 1
        return dict(score=float(Counted.done))


METRICS.register_module(name="CountedMetric", module=Counted, force=True)


@MODELS.register_module(name="TinyValidated", force=True)
class Validated(Weights):
    """Predicts the same of each image."""

    def forward(self, x: list[torch.Tensor], mode: str) -> Any:
        return super().forward(x, mode) if mode == "loss" else [{} for _ in x]


VALIDATED: dict[str, Any] = dict(
    model=dict(type="TinyValidated"),
    val_dataloader=dict(
        batch_size=5,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(type="TinyNumbers"),
    ),
    val_cfg={},
    val_evaluator=dict(type="CountedMetric"),
)


@pytest.mark.parametrize("schedule", ["epochs", "iterations"])
@pytest.mark.parametrize("interval", [100, 1])  # of checkpoints
@pytest.mark.parametrize(
    ("method", "call"), [("after_val_iter", 2), ("after_train_iter", 4)], ids=["in", "before"]
)
def test_a_validation_is_given_up_and_made_up_for(tmp_path, schedule, interval, method, call):
    length = dict(max_epochs=4, val_interval=1) if schedule == "epochs" else dict(val_interval=4)
    settings = VALIDATED | {
        "train_cfg": tiny_config(schedule, tmp_path).train_cfg | length,
        "default_hooks.checkpoint.interval": interval,
        "default_hooks.checkpoint.save_best": "score",
        "default_hooks.checkpoint.rule": "greater",
        # which validates with other weights than it trains
        "custom_hooks": [dict(type="WatchHook"), dict(type="EMAHook", momentum=0.5)],
    }
    Counted.done = 0
    run(schedule, tmp_path / "whole", **settings)
    assert Counted.done == 4
    Counted.done = 0
    stop = run(schedule, tmp_path / "run", "SIGTERM", method, call, **settings)
    assert stop.code == 75 and str(stop).startswith("stopped by SIGTERM after 4 of 16 updates")
    assert Counted.done == 0 and "iter_4.pth" in files(tmp_path / "run")
    run(schedule, tmp_path / "run", start=Start(resume="auto"), **settings)
    assert Counted.done == 4
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    whole, again = (
        torch.load(tmp_path / name / "iter_16.pth", weights_only=False) for name in ("whole", "run")
    )
    for name in ("state_dict", "ema_state_dict"):
        assert torch.equal(
            whole[name].get("body", whole[name].get("module.body")),
            again[name].get("body", again[name].get("module.body")),
        )


def test_a_signal_in_the_last_validation_says_that_the_training_is_complete(tmp_path):
    stop = run("iterations", tmp_path, "SIGTERM", "after_val_iter", 1, **VALIDATED)
    assert stop.code == 75 and files(tmp_path)[-2:] == ["iter_8.pth", "iter_9.pth"]
    assert "iter_16.pth; the training is complete" in str(stop)


def best(interval: int) -> dict[str, Any]:
    """Validations after every fourth update, each better than the one before."""
    hook = dict(interval=interval, save_best="score", rule="greater")
    hook = {f"default_hooks.checkpoint.{name}": value for name, value in hook.items()}
    return VALIDATED | {"train_cfg.val_interval": 4} | hook


def test_an_update_after_the_best_validation_is_saved_too(tmp_path):
    stop = run("iterations", tmp_path, "SIGTERM", "before_train_iter", 5, **best(3))
    assert "iter_5.pth" in str(stop) and "iter_5.pth" in files(tmp_path)


# in the first validation, and in its repetition with the weights that are trained
@pytest.mark.parametrize(("on_ema", "call"), [(True, 2), (True, 9), (False, 2)])
def test_mmpretrains_average_of_weights_survives_a_stop(tmp_path, on_ema, call):
    average = dict(type="mmpretrain.EMAHook", evaluate_on_ema=on_ema, evaluate_on_origin=True)
    hooks = {"custom_hooks": [dict(type="WatchHook"), dict(average, momentum=0.5)]}
    saved = {}
    for name, plan in dict(whole=(), run=("SIGTERM", "after_val_iter", call)).items():
        run("iterations", tmp_path / name, *plan, **best(1), **hooks)
        saved[name] = torch.load(tmp_path / name / "iter_4.pth", weights_only=False)
    for part in ("state_dict", "ema_state_dict"):
        whole, again = saved["whole"][part], saved["run"][part]
        assert all(torch.equal(whole[name], again[name]) for name in whole)


@HOOKS.register_module(name="BreakHook", force=True)
class BreakHook(Hook):
    """Lets a weight be infinite after update 6."""

    def after_train_iter(self, runner: Any, *_: object, **__: object) -> None:
        if runner.iter == 5:
            runner.model.body.data[0] = float("inf")


@pytest.mark.parametrize("interval", [100, 4])
def test_the_advice_names_no_checkpoint_that_was_not_saved(tmp_path, interval):
    fields = {
        "custom_hooks": [dict(type="WatchHook"), dict(type="BreakHook")],
        "default_hooks.checkpoint.interval": interval,
    }
    with pytest.raises(FloatingPointError) as error:
        run("iterations", tmp_path, "SIGTERM", "before_train_iter", 6, **fields)
    assert files(tmp_path) == (["iter_4.pth"] if interval == 4 else [])
    last = f"start a new run from {tmp_path}/iter_4.pth" if interval == 4 else "start again"
    assert last in str(error.value)


@pytest.mark.parametrize("by_epoch", [True, False])
def test_the_clock_saves_where_the_interval_is_long_and_keeps_one(tmp_path, by_epoch, monkeypatch):
    minutes = itertools.count()  # an update takes a minute
    monkeypatch.setattr(stopping, "monotonic", lambda: 60.0 * next(minutes))
    saved, put = [], AtomicLocalBackend.put

    def note(self: Any, obj: bytes, filepath: str) -> None:
        put(self, obj, filepath)
        if str(filepath).endswith(".pth"):
            saved.append(files(tmp_path))

    monkeypatch.setattr(AtomicLocalBackend, "put", note)
    fields = {"default_hooks.checkpoint.by_epoch": by_epoch, **RARELY}
    run("epochs" if by_epoch else "iterations", tmp_path, minutes=5, **fields)
    last = "epoch_4.pth" if by_epoch else "iter_16.pth"
    clocked = ["iter_5.pth", "iter_10.pth", "iter_15.pth"]
    pairs = itertools.pairwise([*clocked, last])
    assert saved == [clocked[:1], *map(sorted, pairs)] and files(tmp_path) == [last]
