"""Gradient accumulation changes neither the update nor, by more than one update, its rate."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.registry import MODELS
from milan_mm.run.batch import apply_total_batch
from tests.helpers import milan_config


class KeepEveryFourth(nn.Module):
    """A mask that is the same for every image, so that it is the same in every part of a batch."""

    needs_importance = True

    def forward(self, imgs: Tensor, num_patches: int, importance: Tensor) -> tuple[Tensor, Tensor]:
        ids = torch.arange(num_patches).expand(len(imgs), -1)
        return ids[:, ::4], ids[:, ids[0] % 4 > 0]


def trained_milan(wrapper: dict, images: Tensor, accumulation: int, updates: int) -> nn.Module:
    """A MILAN of the same start each time, after some updates on the same images."""
    torch.manual_seed(0)
    model = MODELS.build(milan_config())
    model.mask_generator = KeepEveryFourth()
    optim_wrapper = build_optim_wrapper(
        model,
        dict(
            wrapper,
            optimizer=dict(type="AdamW", lr=1e-2, eps=1e-4, weight_decay=0.05),
            constructor="milan_mm.LayerDecayOptimWrapperConstructor",
            paramwise_cfg=dict(no_decay_1d=True),
            accumulative_counts=accumulation,
        ),
    )
    optim_wrapper.initialize_count_status(model, 0, updates * accumulation)
    for part in images.chunk(accumulation) * updates:
        with optim_wrapper.optim_context(model):
            loss = model.loss(part)["loss"]
        optim_wrapper.update_params(loss)
    return model


@pytest.mark.parametrize("clip_grad", [None, dict(max_norm=0.01)], ids=["plain", "clipped"])
@pytest.mark.parametrize(
    "wrapper",
    # without modules in bfloat16 the second one computes in float32
    [dict(type="OptimWrapper"), dict(type="milan_mm.BFloat16OptimWrapper", modules=[])],
    ids=["OptimWrapper", "BFloat16OptimWrapper"],
)
def test_four_parts_of_two_give_the_update_of_eight(wrapper: dict, clip_grad: dict | None):
    images = torch.randn(8, 3, 96, 96)
    wrapper = dict(wrapper, clip_grad=clip_grad)
    start = trained_milan(wrapper, images, accumulation=1, updates=0)
    whole = trained_milan(wrapper, images, accumulation=1, updates=2)
    parts = trained_milan(wrapper, images, accumulation=4, updates=2)
    moved = []
    for a, b, c in zip(start.parameters(), whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(c, b, rtol=0, atol=1e-6)
        moved.append((b - a).abs().max().item())
    assert max(moved) > 1e-3


class Scale(BaseModel):
    """One parameter, for a run that is about its learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor]:
        return dict(loss=(self.weight * torch.stack(x)).mean())


EPOCHS = dict(
    samples=32,
    train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=4),
    param_scheduler=[
        dict(type="LinearLR", start_factor=1e-9, end=1, convert_to_iter_based=True),
        dict(type="CosineAnnealingLR", begin=1, end=4, T_max=3, convert_to_iter_based=True),
    ],
)
ITERATIONS = dict(
    samples=128,  # one pass, since mmengine pauses between passes
    train_cfg=dict(type="IterBasedTrainLoop", max_iters=16),
    param_scheduler=[
        dict(type="LinearLR", start_factor=1e-9, by_epoch=False, end=4),
        dict(type="CosineAnnealingLR", begin=4, end=16, T_max=12, by_epoch=False),
    ],
)


def rates_of_updates(schedule: dict, batch_size: int, work_dir: Path) -> list[float]:
    """The learning rate of every update of a run of 16 updates at a total batch of 8."""
    cfg = Config(
        dict(
            schedule,
            total_batch=8,
            train_dataloader=dict(batch_size=batch_size),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
        )
    )
    apply_total_batch(cfg, world_size=1)
    runner = Runner(
        model=Scale(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=cfg.train_dataloader.batch_size,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=[dict(x=torch.ones(())) for _ in range(cfg.samples)],
        ),
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks=dict(logger=None, checkpoint=None),
        default_scope="mmengine",
        experiment_name=f"{work_dir.name}-{batch_size}",
    )
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    rates: list[float] = []
    runner.optim_wrapper.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    runner.train()
    return rates


@pytest.mark.parametrize("schedule", [EPOCHS, ITERATIONS], ids=["epochs", "iterations"])
def test_an_update_learns_at_its_own_or_the_next_update_s_rate(schedule: dict, tmp_path: Path):
    whole = rates_of_updates(schedule, batch_size=8, work_dir=tmp_path)
    parts = rates_of_updates(schedule, batch_size=2, work_dir=tmp_path)
    assert len(whole) == len(parts) == 16
    assert whole[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-6)  # the warm-up epoch
    for found, own, following in zip(parts, whole, [*whole[1:], 0.0], strict=True):
        low, high = sorted((own, following))
        assert low - 1e-9 <= found <= high + 1e-9
