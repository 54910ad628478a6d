"""Runs that take no time: one parameter, numbers for images, and what each update learnt from."""

from pathlib import Path
from typing import ClassVar

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import Start
from milan_mm.run.training import train
from tests.helpers import forget_runs

IMAGES, TOTAL_BATCH = 35, 8  # 4 updates in an epoch, and a tail
UPDATES = 16


@DATASETS.register_module(name="TinyNumbers", force=True)
class Numbers(torch.utils.data.Dataset):
    """Image i is the number i."""

    def __init__(self, images: int = IMAGES, pipeline: tuple = ()) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(x=torch.tensor(float(index)))


@MODELS.register_module(name="TinyWeights", force=True)
class Weights(BaseModel):
    """A weight of `width` numbers, and one for each class."""

    def __init__(self, width: int = 2, num_classes: int = 3, drop: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Parameter(torch.ones(width))
        self.head = nn.Parameter(torch.ones(num_classes))

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor]:
        x = torch.stack(x)
        WatchHook.seen += x.int().tolist()
        return dict(loss=x.mean() / 100 * (self.body.sum() + self.head.sum()))


@HOOKS.register_module(name="WatchHook", force=True)
class WatchHook(Hook):
    """Notes the learning rate and the images of every update."""

    rates: ClassVar[list[float]] = []
    images: ClassVar[list[list[int]]] = []
    seen: ClassVar[list[int]] = []

    def before_train(self, runner: Runner) -> None:
        WatchHook.rates, WatchHook.images, WatchHook.seen = [], [], []
        runner.optim_wrapper.optimizer.register_step_pre_hook(self._note)

    def _note(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        WatchHook.rates.append(optimizer.param_groups[0]["lr"])
        WatchHook.images.append(sorted(WatchHook.seen))
        WatchHook.seen = []


SCHEDULES = dict(
    epochs=dict(
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=4),
        param_scheduler=[
            dict(type="LinearLR", start_factor=1e-9, end=1, convert_to_iter_based=True),
            dict(
                type="CosineAnnealingLR",
                begin=1,
                end=4,
                T_max=3,
                eta_min=0.0,
                convert_to_iter_based=True,
            ),
        ],
        sampler=dict(type="DefaultSampler", shuffle=True),
    ),
    # a warm-up in updates below a decay in epochs
    mixed=dict(
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=4),
        param_scheduler=[
            dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=3),
            dict(type="MultiStepLR", milestones=[2, 3], gamma=0.1),
        ],
        sampler=dict(type="DefaultSampler", shuffle=True),
    ),
    iterations=dict(
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=UPDATES),
        param_scheduler=[
            dict(type="LinearLR", start_factor=1e-9, by_epoch=False, end=4),
            dict(type="CosineAnnealingLR", begin=4, end=UPDATES, by_epoch=False, eta_min=0.0),
        ],
        sampler=dict(type="InfiniteSampler", shuffle=True),
    ),
)


def tiny_config(schedule: str, work_dir: Path, **fields: object) -> Config:
    """A recipe of 16 updates at a total batch of 8, with a checkpoint after every update."""
    settings = SCHEDULES[schedule]
    cfg = Config(
        dict(
            default_scope="mmengine",
            custom_imports=dict(imports=["milan_mm.register"]),
            total_batch=TOTAL_BATCH,
            model=dict(type="TinyWeights"),
            train_dataloader=dict(
                batch_size=TOTAL_BATCH,
                num_workers=0,
                sampler=settings["sampler"],
                dataset=dict(type="TinyNumbers"),
            ),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.5, momentum=0.9)),
            param_scheduler=settings["param_scheduler"],
            train_cfg=settings["train_cfg"],
            custom_hooks=[dict(type="WatchHook")],
            default_hooks=dict(
                logger=None, checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1)
            ),
            randomness=dict(seed=0),
            work_dir=str(work_dir),
        )
    )
    cfg.merge_from_dict(fields)
    return cfg


def run_tiny(
    cfg: Config, start: Start | None = None, save_minutes: float = 0, **options: object
) -> Runner:
    """Prepare and train.

    Args:
        save_minutes: See `train`.
        options: Of `RunOptions`.
    """
    forget_runs()
    WatchHook.rates, WatchHook.images = [], []
    notes = prepare(cfg, RunOptions(**options), TRAINING)
    return train(cfg, start, notes, save_minutes)
