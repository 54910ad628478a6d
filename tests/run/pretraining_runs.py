"""Pretrainings of seconds: a MILAN of 2 narrow blocks on a few noisy images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import Start
from milan_mm.run.tracking import Tracking
from milan_mm.run.training import train
from tests.helpers import forget_runs, milan_config

SIDE, TOTAL_BATCH, UPDATES_PER_EPOCH = 96, 4, 3
COLOURS = dict(blue=(40, 60, 220), green=(30, 180, 60), red=(220, 40, 50))


def labelled_images(root: Path, train: int = 8, val: int = 4, noise: float = 90) -> Path:
    """ROOT/{train,val}/COLOUR/*.png, so noisy that an encoder gets some of them wrong."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                shade = rng.normal(colour, noise)
                pixels = np.clip(rng.normal(shade, noise, (100, 120, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def pretraining_config(images: Path, work_dir: Path, epochs: int = 2, **fields: Any) -> Config:
    """3 updates of 4 images in an epoch, a log line for each, a checkpoint after each epoch."""
    pipeline = [
        dict(type="milan_mm.SeedSample"),
        dict(type="milan_mm.LoadImage"),
        dict(type="RandomResizedCrop", scale=SIDE),
        dict(type="PackInputs"),
    ]
    cfg = Config(
        dict(
            default_scope="mmpretrain",
            custom_imports=dict(imports=["milan_mm.register"]),
            total_batch=TOTAL_BATCH,
            model=milan_config(),
            train_dataloader=dict(
                batch_size=TOTAL_BATCH,
                num_workers=0,
                drop_last=True,
                sampler=dict(type="DefaultSampler", shuffle=True),
                collate_fn=dict(type="default_collate"),
                num_batch_per_epoch=UPDATES_PER_EPOCH,
                dataset=dict(
                    type="CustomDataset",
                    data_root=str(images),
                    data_prefix="train",
                    with_label=False,
                    pipeline=pipeline,
                ),
            ),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-3)),
            param_scheduler=dict(type="CosineAnnealingLR", T_max=epochs),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=epochs),
            default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
            custom_hooks=[
                dict(type="milan_mm.SampleSeedHook"),
                dict(type="milan_mm.SpeedHook"),
                dict(type="milan_mm.GradientNormHook"),
            ],
            log_processor=dict(window_size=1),
            randomness=dict(seed=0),
            work_dir=str(work_dir),
        )
    )
    cfg.merge_from_dict(fields)
    return cfg


def pretrain(cfg: Config, start: Start | None = None, **tracking: Any) -> Runner:
    """Prepare and train.

    Args:
        tracking: Of `Tracking`.
    """
    forget_runs()
    notes = prepare(cfg, RunOptions(tracking=Tracking(**tracking)), TRAINING)
    return train(cfg, start, notes)


def logged(work_dir: Path) -> list[dict]:
    """The lines of the newest scalars.json."""
    file = sorted(work_dir.glob("*/vis_data/scalars.json"))[-1]
    return [json.loads(line) for line in file.read_text().splitlines()]


def losses(work_dir: Path) -> list[float]:
    """Of each logged iteration."""
    return [line["loss"] for line in logged(work_dir) if "loss" in line]
