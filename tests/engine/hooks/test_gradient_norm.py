"""The logged norm is that of the gradients of a whole update, and measuring changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.registry import HOOKS
from tests.helpers import forget_runs

VALUES = [1.0, 2.0, 4.0, 8.0]  # one image each


class Line(BaseModel):
    """The gradient of both weights is the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        return dict(loss=(self.weight.sum() * torch.stack(x)).mean())


def run(folder: Path, interval: int = 1, hook: bool = True, **wrapper: object) -> Runner:
    """A run over `VALUES`, one image in an iteration."""
    forget_runs()
    runner = Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=[dict(x=torch.tensor(value)) for value in VALUES],
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)) | wrapper,
        custom_hooks=[HOOKS.build(dict(type="GradientNormHook"))] if hook else [],
        default_hooks=dict(checkpoint=None, logger=dict(type="LoggerHook", interval=interval)),
        experiment_name=folder.name,
    )
    runner.train()
    return runner


def norms(folder: Path) -> list[float]:
    (file,) = folder.glob("*/vis_data/scalars.json")
    lines = map(json.loads, file.read_text().splitlines())
    return [line["grad_norm"] / 2**0.5 for line in lines if "grad_norm" in line]


def test_each_line_has_the_mean_over_its_updates(tmp_path):
    run(tmp_path / "every")
    assert norms(tmp_path / "every") == pytest.approx(VALUES)
    run(tmp_path / "second", interval=2)
    assert norms(tmp_path / "second") == pytest.approx([1.5, 6.0])


def test_an_accumulated_batch_has_one_norm(tmp_path):
    run(tmp_path, accumulative_counts=2)
    found = norms(tmp_path)
    assert found[0] == pytest.approx(1.5) and found[-1] == pytest.approx(6.0)


def test_where_mmengine_clips_the_norm_is_its_own(tmp_path):
    run(tmp_path, clip_grad=dict(max_norm=0.5))
    assert norms(tmp_path)[0] == pytest.approx(1.0)  # before it was clipped


def test_weights_are_those_of_a_run_without_it(tmp_path):
    plain, measured = (run(tmp_path / str(hook), hook=hook) for hook in (False, True))
    assert torch.equal(plain.model.weight, measured.model.weight)


@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_scale_is_taken_out(fused):
    """By torch before the step, or by a fused optimizer itself, which gets scaled gradients."""
    hook = HOOKS.build(dict(type="GradientNormHook"))
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, fused=fused)
    optimizer.register_step_pre_hook(hook._measure)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    assert hook._sum == pytest.approx(2**0.5)
