"""Stretching and shrinking what a config counts in iterations or epochs."""

from mmengine.config import ConfigDict

from milan_mm.errors import UserError

_LENGTHS = ("begin", "end", "T_max", "milestones", "step_size", "total_steps", "periods")
# Their decay per step cannot be expressed by other lengths.
_PER_STEP = ("ExponentialLR", "ExponentialMomentum")


def stretch_iterations(cfg: ConfigDict, factor: int) -> None:
    """Make everything that is counted in iterations `factor` times longer, in place.

    Gradient accumulation makes an iteration `factor` times smaller; epochs stay epochs.

    Raises:
        UserError: When a scheduler decays by a fixed factor per iteration.
    """
    if factor == 1:
        return
    loop = cfg.train_cfg
    if is_iter_based(cfg):
        for key in ("max_iters", "val_interval", "val_begin"):
            if key in loop:
                loop[key] *= factor
        if "dynamic_intervals" in loop:
            loop.dynamic_intervals = [(a * factor, b * factor) for a, b in loop.dynamic_intervals]
    hooks = [*(cfg.get("default_hooks") or {}).values(), *(cfg.get("custom_hooks") or [])]
    for hook in hooks:
        if hook and hook.get("by_epoch") is False and "interval" in hook:
            hook.interval *= factor
    for scheduler in schedulers(cfg):
        if not scheduler.get("by_epoch", True):
            _refuse_per_step(scheduler)
            _scale(scheduler, factor)


def shrink_schedule(cfg: ConfigDict, iterations: int) -> None:
    """Squeeze the learning-rate schedule into a run of a few iterations, in place.

    A warm-up that shrinks to less than two steps is left out: it would never reach its end.
    """
    loop = cfg.train_cfg
    total = loop.max_iters if is_iter_based(cfg) else loop.max_epochs
    shrunk = []
    for scheduler in schedulers(cfg):
        by_epoch = scheduler.get("by_epoch", True)
        if by_epoch == is_iter_based(cfg):
            continue  # counts in a unit whose total is not known here: a short warm-up
        scheduler.pop("convert_to_iter_based", None)
        scheduler.by_epoch = False
        scheduler.setdefault("begin", 0)
        scheduler.end = min(scheduler.get("end", total), total)
        _scale(scheduler, iterations / total)
        if scheduler.end - scheduler.begin >= 2:
            shrunk.append(scheduler)
    cfg.param_scheduler = shrunk


def schedulers(cfg: ConfigDict) -> list[ConfigDict]:
    """The config's parameter schedulers; one that stands alone counts as a list."""
    entries = cfg.get("param_scheduler") or []
    return [entries] if isinstance(entries, dict) else list(entries)


def is_iter_based(cfg: ConfigDict) -> bool:
    """Whether training is counted in iterations instead of epochs."""
    return "max_iters" in cfg.train_cfg


def _scale(scheduler: ConfigDict, factor: float) -> None:
    for key in _LENGTHS:
        value = scheduler.get(key)
        if isinstance(value, (list, tuple)):
            scheduler[key] = [max(round(v * factor), 1) for v in value]
        elif value is not None:
            scheduler[key] = max(round(value * factor), int(key != "begin"))


def _refuse_per_step(scheduler: ConfigDict) -> None:
    if scheduler.type.rsplit(".", 1)[-1] in _PER_STEP:
        raise UserError(
            f"{scheduler.type} with by_epoch=False cannot be stretched for gradient accumulation: "
            "use more processes, a larger train_dataloader.batch_size, or by_epoch=True"
        )
