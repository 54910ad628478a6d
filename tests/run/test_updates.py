"""Update u has one rate and one set of images, however the total batch is split."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.datasets.whole_updates import UpdateSampler
from milan_mm.engine.hooks.updates import has_updated
from milan_mm.run.batch import apply_total_batch
from milan_mm.run.updates import count_updates

IMAGES, TOTAL_BATCH = 35, 8  # 4 updates in an epoch, and a tail of 3
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
        dict(type="LinearLR", start_factor=1e-9, end=1, convert_to_iter_based=True),
        dict(type="CosineAnnealingLR", begin=1, T_max=3, end=4, convert_to_iter_based=True),
    ],
    converted_steps=[dict(type="MultiStepLR", milestones=[1, 2], convert_to_iter_based=True)],
)


class Scale(BaseModel):
    """One parameter, for a run that is about its learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor]:
        return dict(loss=(self.weight * torch.stack(x)).mean())


def settings_of_updates(
    schedule: list[dict], loop: dict, split: tuple[int, int], work_dir: Path
) -> list[tuple[float, float]]:
    """Learning rate and momentum of every update of a run."""
    processes, parts = split
    cfg = Config(
        dict(
            total_batch=TOTAL_BATCH,
            train_dataloader=dict(
                batch_size=TOTAL_BATCH // processes // parts,
                num_workers=0,
                drop_last=True,
                sampler=dict(type="DefaultSampler", shuffle=False),
            ),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0, momentum=0.9)),
            train_cfg=loop,
            param_scheduler=schedule,
            default_hooks=dict(logger=None, checkpoint=None),
        )
    )
    if "max_iters" in loop:
        cfg.train_dataloader.sampler.type = "InfiniteSampler"
    apply_total_batch(cfg, processes)
    dataset = [dict(x=torch.ones(())) for _ in range(IMAGES)]
    runner = Runner(
        model=Scale(),
        work_dir=str(work_dir),
        train_dataloader=dict(cfg.train_dataloader, dataset=dataset),
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks=cfg.default_hooks,
        default_scope="mmengine",
        experiment_name=f"{work_dir.name}-{processes}x{parts}",
    )
    count_updates(runner)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    found: list[tuple[float, float]] = []
    runner.optim_wrapper.optimizer.register_step_pre_hook(
        lambda optimizer, *_: found.extend((g["lr"], g["momentum"]) for g in optimizer.param_groups)
    )
    runner.train()
    return found


@pytest.fixture
def one_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Let this process take itself for one of several."""

    def pretend(processes: int, rank: int = 0) -> None:
        for module in ("mmengine.runner.runner", "mmengine.dataset.sampler"):
            monkeypatch.setattr(f"{module}.get_dist_info", lambda: (rank, processes))

    return pretend


@pytest.mark.parametrize("loop", [ITERATIONS, EPOCHS], ids=["iterations", "epochs"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_of_an_update_is_the_same_for_every_split(
    name: str, loop: dict, one_of: Callable, tmp_path: Path
):
    whole = settings_of_updates(SCHEDULES[name], loop, WHOLE, tmp_path)
    assert len(whole) == 16
    for split in SPLITS:
        one_of(split[0])
        assert settings_of_updates(SCHEDULES[name], loop, split, tmp_path) == whole
    # an iteration-based run has no epoch that ends before it does
    assert len(set(whole)) > 1 or (name, loop) == ("epochs", ITERATIONS)


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
    )
    with pytest.raises(ValueError, match=r"5 iterations is not a whole number .* of 4 iterations"):
        count_updates(runner)


def test_of_several_optimizers_all_must_have_stepped():
    parts = [
        build_optim_wrapper(
            Scale(), dict(optimizer=dict(type="SGD", lr=1.0), accumulative_counts=n)
        )
        for n in (1, 2)
    ]
    wrapper = OptimWrapperDict(a=parts[0], b=parts[1])
    seen = []
    for _ in range(4):
        for part in parts:
            part.update_params(torch.ones((), requires_grad=True))
        seen.append(has_updated(wrapper))
    assert seen == [False, True, False, True]
