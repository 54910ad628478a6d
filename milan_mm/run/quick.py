"""`--quick`: any recipe, cut down to a few iterations and one validation batch."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from milan_mm.run.config_nodes import is_read_from_disk, teachers
from milan_mm.run.schedule.schedules import is_iter_based, shrink_schedule

ITERATIONS = 4
NUM_CLASSIFIED = 8  # validation images of a classifier: of one image it gets 0 or 100 %


def make_quick(cfg: Config, world_size: int) -> list[str]:
    """Shrink the run, not the model or the images, in place.

    Args:
        world_size: Number of processes.

    Returns:
        Lines for the log about what differs from the recipe.
    """
    batch_size = shrink_training(cfg, world_size, ITERATIONS)
    for name in ("val_dataloader", "test_dataloader"):
        if cfg.get(name):
            classifies = cfg.get("default_scope") == "mmpretrain"
            _shrink_loader(cfg[name], NUM_CLASSIFIED if classifies else 1)
            cfg[name].sampler = ConfigDict(
                type="milan_mm.EvenSampler", num_samples=cfg[name].batch_size * world_size
            )
    test_cfg = cfg.model.get("test_cfg") or {}
    for settings in (test_cfg, test_cfg.get("rcnn") or {}):  # of one stage, of two
        if "score_thr" in settings:
            # an untrained detector is sure of nothing, and masks are to be tried
            settings["score_thr"] = 0.0
    notes = [
        f"--quick: {ITERATIONS} iterations with a batch of {batch_size} per process, then one "
        "validation batch; the numbers only show that the recipe runs"
    ]
    return notes + _random_teachers(cfg.model)


def shrink_training(cfg: Config, world_size: int, iterations: int) -> int:
    """Train for a few iterations with a tiny batch, then validate and save; in place.

    Returns:
        The batch of one process.
    """
    # 1024-pixel detection takes 6 GiB with one image; batch norm of a pooled map needs two
    batch_size = 1 if cfg.get("default_scope") == "mmdet" else 2
    shrink_schedule(cfg, iterations)
    cfg.pop("total_batch", None)
    cfg.optim_wrapper.pop("accumulative_counts", None)
    _shrink_loader(cfg.train_dataloader, batch_size)
    if is_iter_based(cfg):
        cfg.train_cfg = ConfigDict(
            type=cfg.train_cfg.get("type", "IterBasedTrainLoop"),
            max_iters=iterations,
            val_interval=iterations,
        )
    else:
        cfg.train_cfg = ConfigDict(
            type=cfg.train_cfg.get("type", "EpochBasedTrainLoop"), max_epochs=1, val_interval=1
        )
        _limit(cfg.train_dataloader, iterations, world_size)
    _log_every_iteration(cfg, iterations)
    return batch_size


def _shrink_loader(loader: ConfigDict, batch_size: int) -> None:
    loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False)
    for key in ("prefetch_factor", "timeout"):
        loader.pop(key, None)


def _limit(loader: ConfigDict, batches: int, world_size: int) -> None:
    """Let an epoch end after some batches, also of a data set that is smaller than that.

    The samples are spread over the data set, whose classes may come one after another.
    """
    loader.dataset = ConfigDict(
        type="milan_mm.EvenSample",
        dataset=loader.dataset,
        num_samples=batches * loader.batch_size * world_size,
    )
    loader.num_batch_per_epoch = batches


def _log_every_iteration(cfg: Config, iterations: int) -> None:
    hooks = cfg.setdefault("default_hooks", ConfigDict())
    hooks.setdefault("logger", ConfigDict(type="LoggerHook")).interval = 1
    checkpoint = hooks.setdefault("checkpoint", ConfigDict(type="CheckpointHook"))
    by_epoch = not is_iter_based(cfg)
    checkpoint.update(by_epoch=by_epoch, interval=1 if by_epoch else iterations)
    checkpoint.pop("save_begin", None)
    cfg.setdefault("log_processor", ConfigDict()).update(window_size=1, by_epoch=by_epoch)


def _random_teachers(model: ConfigDict) -> list[str]:
    """Replace teacher weights that would have to be downloaded; shipped and local ones stay."""
    notes = []
    for teacher in teachers(model):
        pretrained = teacher.pretrained
        if pretrained in (None, "shipped", "random") or Path(pretrained).is_file():
            continue
        if "type" in teacher and is_read_from_disk(teacher):
            continue
        teacher.pretrained = "random"
        notes.append(f"--quick: teacher {teacher.model_name} gets random weights, no download")
    return notes
