"""The logged loss is finite, and that of the whole batch."""

from types import SimpleNamespace

import pytest
import torch

from milan_mm.engine.hooks import losses
from milan_mm.engine.hooks.losses import LossHook


def runner(last: str | None = None, clip: dict | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        iter=41,
        hooks=[],
        message_hub=SimpleNamespace(get_info=dict(last_ckpt=last).get),
        optim_wrapper=SimpleNamespace(clip_grad_kwargs=clip),
    )


RUNNER = runner()


@pytest.mark.parametrize("value", [float("nan"), torch.tensor(float("inf"))])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(value: float | torch.Tensor):
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) at iteration 42"):
        LossHook().after_train_iter(RUNNER, 0, outputs=dict(loss=value))


@pytest.mark.parametrize(
    ("last", "clip", "advice"),
    [
        (None, None, r"42: start again with a lower .* \(--lr\) or .*clip_grad.max_norm=1.0\)$"),
        (None, dict(max_norm=1), r"42: start again with a lower learning rate \(--lr\)$"),
        ("iter_9.pth", None, r"from iter_9.pth \(--init-from FILE\) with .* or with gradient"),
    ],
)
def test_only_what_the_run_can_do_is_advised(last: str | None, clip: dict | None, advice: str):
    with pytest.raises(FloatingPointError, match=advice):
        LossHook().after_train_iter(runner(last, clip), 0, outputs=dict(loss=float("nan")))


def test_a_single_process_logs_what_the_model_returned():
    outputs = dict(loss=torch.tensor(1.5, requires_grad=True), acc=0.5)
    LossHook().after_train_iter(RUNNER, 0, outputs=outputs)
    assert outputs["loss"].item() == 1.5 and outputs["acc"] == 0.5


def test_several_processes_log_the_mean_over_all(monkeypatch: pytest.MonkeyPatch):
    def all_reduce(means: torch.Tensor, op: str) -> None:  # the other process holds zeros
        assert op == "mean"
        means /= 2

    monkeypatch.setattr(losses, "get_world_size", lambda: 2)
    monkeypatch.setattr(losses, "all_reduce", all_reduce)
    outputs = dict(loss=torch.tensor(3.0), acc=1.0)
    LossHook().after_train_iter(RUNNER, 0, outputs=outputs)
    assert outputs == dict(loss=1.5, acc=0.5)
