"""Runs of a model with one parameter, for what is about schedules and not about models."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.configs import list_configs
from milan_mm.run.schedule.batch import apply_total_batch
from milan_mm.run.schedule.schedules import is_iter_based

TOTAL_BATCH = 8
IMAGES = 35  # 4 updates in an epoch, and a tail of 3
RUN_NUMBERS = iter(range(10**9))  # mmengine keeps runners apart by their names


class Scale(BaseModel):
    """One parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor] | list:
        return dict(loss=(self.weight * torch.stack(x)).mean()) if mode == "loss" else []


class Nothing(BaseMetric):
    """A metric without a number."""

    def process(self, *_: object) -> None: ...

    def compute_metrics(self, _: list) -> dict[str, float]:
        return dict(nothing=0.0)


def scale_runner(
    cfg: Config,
    work_dir: Path,
    split: tuple[int, int] = (1, 1),
    images: int = IMAGES,
    total_batch: int = TOTAL_BATCH,
    **settings: object,
) -> Runner:
    """A runner with the loop, the schedulers, the optimizer's rate and the hooks of a config.

    Args:
        split: Processes, and parts of each process's share.
        settings: Further ones of `Runner`.
    """
    processes, parts = split
    cfg = Config(cfg.to_dict())
    kind = "InfiniteSampler" if is_iter_based(cfg) else "DefaultSampler"
    cfg.train_dataloader = dict(
        batch_size=total_batch // processes // parts,
        num_workers=0,
        drop_last=True,
        sampler=dict(type=kind, shuffle=False),
        dataset=[dict(x=torch.ones(())) for _ in range(images)],
    )
    lr = cfg.optim_wrapper.optimizer.lr
    cfg.optim_wrapper = dict(optimizer=dict(type="SGD", lr=lr, momentum=0.9))
    cfg.total_batch, cfg.auto_scale_lr = total_batch, {}
    kept = ("checkpoint", "param_scheduler")
    hooks = {name: hook for name, hook in cfg.get("default_hooks", {}).items() if name in kept}
    cfg.default_hooks = dict(checkpoint=None) | hooks | dict(logger=None)
    apply_total_batch(cfg, processes)
    return Runner(
        model=Scale(),
        work_dir=str(work_dir),
        train_dataloader=cfg.train_dataloader,
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks=cfg.default_hooks,
        default_scope="mmengine",
        experiment_name=f"run-{next(RUN_NUMBERS)}",
        cfg=cfg,
        **settings,
    )


def with_validation(images: int = 3) -> dict:
    """Settings of a runner that validates."""
    loader = dict(
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=[dict(x=torch.ones(())) for _ in range(images)],
    )
    return dict(val_dataloader=loader, val_cfg={}, val_evaluator=dict(type=Nothing))


def recorded_rates(runner: Runner) -> list[tuple[float, float]]:
    """Train, and return learning rate and momentum of every update."""
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    found: list[tuple[float, float]] = []
    runner.optim_wrapper.optimizer.register_step_pre_hook(
        lambda optimizer, *_: found.extend((g["lr"], g["momentum"]) for g in optimizer.param_groups)
    )
    runner.train()
    return found


# the others repeat the schedule of one of these
RECIPES = [
    name
    for name in list_configs()
    if not any(part in name for part in ("/ablation/", "vit-large", "384x384", "-ms"))
]


def unit_of(cfg: Config) -> str:
    """The option that sets a recipe's length."""
    return "iters" if is_iter_based(cfg) else "epochs"
