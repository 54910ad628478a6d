"""Stretching and shrinking what a config counts in iterations or epochs."""

from mmengine.config import ConfigDict

_LENGTHS = ("begin", "end", "T_max", "milestones", "step_size", "total_steps", "periods")


def stretch_iterations(cfg: ConfigDict, factor: int) -> None:
    """Make the loop, and what hooks count in iterations, `factor` times longer, in place.

    Gradient accumulation makes an iteration `factor` times smaller. Epochs stay epochs, and
    schedulers count updates, see `milan_mm.run.schedule.updates`.
    """
    if factor == 1:
        return
    if is_iter_based(cfg):
        _stretch(cfg.train_cfg, ("max_iters", "val_interval", "val_begin"), factor)
        if intervals := cfg.train_cfg.get("dynamic_intervals"):
            cfg.train_cfg.dynamic_intervals = [(a * factor, b * factor) for a, b in intervals]
    _stretch(cfg.train_dataloader, ("num_batch_per_epoch",), factor)
    for hook in hooks(cfg):
        if hook.get("by_epoch") is False:
            _stretch(hook, ("interval", "save_begin"), factor)


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
        scale_lengths(scheduler, iterations / total)
        if "milestones" in scheduler:  # each still comes before the end
            scheduler.milestones = [min(at, iterations - 1) for at in scheduler.milestones]
        if scheduler.end - scheduler.begin >= 2:
            shrunk.append(scheduler)
    cfg.param_scheduler = shrunk


def schedulers(cfg: ConfigDict) -> list[ConfigDict]:
    """The config's parameter schedulers; one that stands alone counts as a list."""
    entries = cfg.get("param_scheduler") or []
    return [entries] if isinstance(entries, dict) else list(entries)


def hooks(cfg: ConfigDict) -> list[ConfigDict]:
    """Settings of the default hooks that are not left out, and of all others."""
    entries = [*(cfg.get("default_hooks") or {}).values(), *(cfg.get("custom_hooks") or [])]
    return [entry for entry in entries if isinstance(entry, dict) and "type" in entry]


def is_iter_based(cfg: ConfigDict) -> bool:
    """Whether training is counted in iterations instead of epochs."""
    return "max_iters" in cfg.train_cfg


def iterations_per_update(cfg: ConfigDict) -> int:
    """Iterations that make an update, see `milan_mm.run.schedule.updates`."""
    wrapper = cfg.get("optim_wrapper") or {}
    return wrapper.get("accumulative_counts", 1) if "total_batch" in cfg else 1


def scale_lengths(scheduler: ConfigDict, factor: float) -> None:
    """Make a scheduler `factor` times longer, in whole numbers and in place."""
    for key in _LENGTHS:
        value = scheduler.get(key)
        if isinstance(value, (list, tuple)):
            scheduler[key] = [max(round(v * factor), 1) for v in value]
        elif value is not None:
            scheduler[key] = max(round(value * factor), int(key != "begin"))


def _stretch(node: ConfigDict, keys: tuple[str, ...], factor: int) -> None:
    for key in keys:
        if node.get(key):
            node[key] *= factor
