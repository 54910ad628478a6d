"""Update u has one rate and one set of images, however the total batch is split."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.runner import Runner

from milan_mm.configs import load
from milan_mm.datasets.whole_updates import UpdateSampler
from milan_mm.engine.hooks.updates import has_updated
from milan_mm.run.schedule.length import set_length
from milan_mm.run.schedule.plan import Plan
from milan_mm.run.schedule.updates import count_updates
from tests.run.runs import (
    IMAGES,
    RECIPES,
    TOTAL_BATCH,
    Scale,
    recorded_rates,
    scale_runner,
    unit_of,
)

WHOLE, SPLITS = (1, 1), [(1, 4), (2, 2)]  # processes x parts
ITERATIONS = dict(type="IterBasedTrainLoop", max_iters=16)
EPOCHS = dict(type="EpochBasedTrainLoop", max_epochs=4)
SGD = dict(type="SGD", lr=1.0)
WARM_UP = dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=3)
# what a recipe may say; lengths that it leaves out are those of the run
SCHEDULES = dict(
    linear_decay=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, by_epoch=False)],
    cosine=[WARM_UP, dict(type="CosineAnnealingLR", by_epoch=False, begin=3, eta_min=0.1)],
    poly=[WARM_UP, dict(type="PolyLR", power=0.9, by_epoch=False, begin=3)],
    steps=[dict(type="MultiStepLR", by_epoch=False, milestones=[5, 13], gamma=0.5)],
    step=[dict(type="StepLR", by_epoch=False, step_size=3)],
    exponential=[dict(type="ExponentialLR", by_epoch=False, gamma=0.9)],
    momentum=[dict(type="LinearMomentum", by_epoch=False, end=9), WARM_UP],
    epochs=[dict(type="MultiStepLR", milestones=[1, 3], gamma=0.5)],
    converted_cosine=[
        dict(type="milan_mm.WarmupLR", end=1, convert_to_iter_based=True),
        dict(type="CosineAnnealingLR", begin=1, T_max=3, end=4, convert_to_iter_based=True),
    ],
    converted_steps=[dict(type="MultiStepLR", milestones=[1, 2], convert_to_iter_based=True)],
)


def run_of(schedule: list[dict], loop: dict) -> Config:
    return Config(dict(train_cfg=loop, param_scheduler=schedule, optim_wrapper=dict(optimizer=SGD)))


@pytest.fixture
def one_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let this process take itself for one of several."""

    def pretend(processes: int, rank: int = 0) -> None:
        for module in ("mmengine.runner.runner", "mmengine.dataset.sampler"):
            monkeypatch.setattr(f"{module}.get_dist_info", lambda: (rank, processes))

    return pretend


def rates_of_splits(cfg: Config, one_of: Callable, work_dir: Path) -> list[list]:
    """Planned rates, and those that a run of each split makes."""
    runner = scale_runner(cfg, work_dir)
    plan = Plan.of(runner)
    found = [recorded_rates(runner)]
    assert [rate for rate, _ in found[0]] == plan.rates.tolist()
    for split in SPLITS:
        one_of(split[0])
        runner = scale_runner(cfg, work_dir, split)
        count_updates(runner)
        found.append(recorded_rates(runner))
    return found


@pytest.mark.parametrize("loop", [ITERATIONS, EPOCHS], ids=["iterations", "epochs"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_of_an_update_is_planned_and_the_same_for_every_split(
    name: str, loop: dict, one_of: Callable, tmp_path: Path
):
    whole, *others = rates_of_splits(run_of(SCHEDULES[name], loop), one_of, tmp_path)
    assert len(whole) == 16
    assert all(rates == whole for rates in others)
    # an iteration-based run has no epoch that ends before it does
    assert len(set(whole)) > 1 or (name, loop) == ("epochs", ITERATIONS)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_s_rates_are_planned_and_the_same_for_every_split(
    recipe: str, one_of: Callable, tmp_path: Path
):
    cfg = load(recipe)
    lengths: dict = dict(epochs=None, iters=None)
    set_length(cfg, **lengths | {unit_of(cfg): 20 if unit_of(cfg) == "iters" else 5})
    cfg.default_hooks = {}
    whole, *others = rates_of_splits(cfg, one_of, tmp_path)
    assert len(whole) == 20
    assert all(rates == whole for rates in others)
    assert len(set(whole)) > 2


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_update_sees_the_same_images_on_any_number_of_processes(
    processes: int, shuffle: bool, one_of: Callable
):
    shares = []
    for rank in range(processes):
        one_of(processes, rank)
        sampler = UpdateSampler(range(IMAGES), TOTAL_BATCH, shuffle, seed=3)
        sampler.set_epoch(2)
        shares.append(torch.tensor([*sampler]).view(4, -1))  # (updates, images of a process)
        assert len(sampler) == shares[-1].numel()
    one_of(1)
    order = UpdateSampler(range(IMAGES), 1, shuffle, seed=3)
    order.set_epoch(2)
    of_updates = torch.tensor([*order][:32]).view(4, TOTAL_BATCH)
    assert torch.cat(shares, dim=1).sort().values.equal(of_updates.sort().values)


def test_an_epoch_that_ends_inside_an_update_is_refused(tmp_path: Path):
    loader = dict(batch_size=2, sampler=dict(type="DefaultSampler"), dataset=[*range(10)])
    runner = Runner(
        model=Scale(),
        work_dir=str(tmp_path),
        train_dataloader=loader,
        train_cfg=EPOCHS,
        optim_wrapper=dict(optimizer=SGD, accumulative_counts=4),
        default_scope="mmengine",
        cfg=Config(dict(total_batch=8, optim_wrapper=dict(accumulative_counts=4))),
    )
    with pytest.raises(ValueError, match=r"5 iterations is not a whole number .* of 4 iterations"):
        count_updates(runner)


def test_of_several_optimizers_all_must_have_stepped():
    parts = [
        build_optim_wrapper(Scale(), dict(optimizer=SGD, accumulative_counts=n)) for n in (1, 2)
    ]
    wrapper = OptimWrapperDict(a=parts[0], b=parts[1])
    seen = []
    for _ in range(4):
        for part in parts:
            part.update_params(torch.ones((), requires_grad=True))
        seen.append(has_updated(wrapper))
    assert seen == [False, True, False, True]
