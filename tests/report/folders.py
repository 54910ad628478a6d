"""Work directories as trainings leave them, without a training."""

import json
from collections.abc import Sequence
from pathlib import Path

from milan_mm.run.records.run_file import read_run_file, write_run_file
from milan_mm.run.records.tested import write_tested_file

CONFIG = """default_scope = 'mmseg'
model = dict(type='EncoderDecoder', backbone=dict(type='milan_mm.PlainViT'))
total_batch = 8
optim_wrapper = dict(accumulative_counts={accumulation})
train_cfg = dict(max_iters={iterations}, type='IterBasedTrainLoop', val_interval={val_interval})
train_dataloader = dict(batch_size={batch})
"""
LOG = """2026/11/28 {hour}:00:00 - mmengine - INFO - 
------------------------------------------------------------
System environment:
    sys.platform: linux
    Python: 3.11.7 (main)
    PyTorch: 2.10.0
    GPU number: 1
------------------------------------------------------------

2026/11/28 {hour}:00:01 - mmengine - WARNING - training waits for its <images>
2026/11/28 {hour}:00:01 - mmengine - WARNING - "FileClient" will be deprecated in future.
2026/11/28 {hour}:10:00 - mmengine - INFO - per class results:
2026/11/28 {hour}:10:00 - mmengine - INFO - 
+----------+-------+-------+
|  Class   |  IoU  |  Acc  |
+----------+-------+-------+
| <sand>   | 95.88 | 98.45 |
|  grass   | 95.39 | 98.34 |
+----------+-------+-------+
2026/11/28 {hour}:10:01 - mmengine - INFO - Iter(val) [200/200]    mIoU: 70.35
"""  # noqa: W291 (as mmengine writes it)


def record(recipe: str = "seg/own", **facts: object) -> dict:
    """The parts of a run's record that a page shows."""
    return dict(
        version=1,
        recipe=recipe,
        encoder=None,
        model=dict(type="EncoderDecoder"),
        classes=["<sand>", "grass"],
        total_batch=8,
        split=dict(batch_per_process=8, processes=1, accumulation=1),
        schedule=dict(updates=100, updates_per_epoch=50, epochs=None),
        data=dict(train=dict(count=400, hash="ab12", root="data/<ade>"), val=dict(count=200)),
        seed=0,
        versions=dict(torch="2.10.0"),
        options={},
    ) | dict(facts)


def train_row(step: int, **values: float) -> dict:
    """What mmengine logs of a training iteration."""
    row = dict(base_lr=0.002, lr=0.001, loss=100 / step, time=0.5, data_time=0.1)
    return row | values | dict(iter=step, step=step)


def write_part(
    work_dir: Path,
    hour: int,
    rows: Sequence[dict],
    start: int = 0,
    accumulation: int = 1,
    iterations: int = 100,
    val_interval: int = 50,
    with_facts: bool = True,
    **facts: object,
) -> Path:
    """One start of a training.

    Args:
        hour: Two digits, of its day. rows: Of scalars.json. start: Iterations done before.
        facts: Of `write_run_file`, instead of plain ones.
    """
    folder = work_dir / f"20261128_{hour}0000"
    data = folder / "vis_data"
    data.mkdir(parents=True)
    data.joinpath("scalars.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data.joinpath("config.py").write_text(
        CONFIG.format(
            accumulation=accumulation,
            iterations=iterations,
            val_interval=val_interval,
            batch=8 // accumulation,
        )
    )
    folder.joinpath(f"{folder.name}.log").write_text(LOG.format(hour=hour))
    if with_facts:
        split = dict(batch_per_process=8 // accumulation, processes=1, accumulation=accumulation)
        given = dict(
            command="python tools/train.py seg/own --data '<b>'",
            plan=["plan: 400 training images", "plan: 100 updates of 8 images"],
            iterations=iterations,
            start=start,
            changes=[dict(field="optim_wrapper.optimizer.lr", recipe=0.001, now=0.002)],
            record=record(split=split),
        )
        write_run_file(folder, **(given | facts))
    return folder


def write_test(
    work_dir: Path, hour: int, metrics: dict, written_by: str | None, **facts: object
) -> Path:
    """A test of runs/iter_100.pth.

    Args:
        written_by: Time of the start that wrote this checkpoint; None for one of another tool.
        facts: In which its record differs from that of this start.
    """
    folder = work_dir / f"20261128_{hour}0000"
    folder.mkdir()
    folder.joinpath(f"{folder.name}.json").write_text(json.dumps(metrics))
    meta: dict = dict(iter=100)
    if written_by:
        run = read_run_file(work_dir / written_by) or dict(record=record())
        meta |= dict(experiment_name=f"own_{written_by}", milan_mm=run["record"] | facts)
    write_tested_file(folder, "runs/iter_100.pth", meta, by_epoch=False)
    return folder


def write_run(work_dir: Path) -> Path:
    """A training that was resumed once, with all that a page shows."""
    first = [train_row(step) for step in (10, 20, 30, 40, 50, 60)]
    first.insert(5, dict(mIoU=60.0, aAcc=80.0, step=50))
    write_part(work_dir, 10, first)
    second = [train_row(step, loss=1.0) for step in (60, 70, 80, 90, 100)]
    write_part(work_dir, 12, [*second, dict(mIoU=65.0, aAcc=85.0, step=100)], start=50)
    work_dir.joinpath("encoder_weights.json").write_text(
        json.dumps(
            dict(
                counts=dict(loaded=75, resized=1),
                source="/data/<mae>.pth",
                layout="timm",
                system="MAE",
                loaded=["pos_embed"],
                resized=["pos_embed (1, 145, 192) to (1, 144, 192)"],
                assumed=dict(pooling="'mean', of MAE's recipe"),
            )
        )
    )
    return work_dir
