"""From the recipe's total batch to what one process does at a time."""

from mmengine.config import Config, ConfigDict

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.run.schedule.schedules import stretch_iterations

_STEPS_ITERATIONS = "ParamSchedulerHook"


def split_total_batch(total: int, largest: int, world_size: int) -> tuple[int, int]:
    """Divide a total batch among processes, with as little accumulation as possible.

    Args:
        total: Images per optimizer step.
        largest: Most images that fit into one process.
        world_size: Number of processes.

    Returns:
        (batch per process, accumulation), whose product with `world_size` is `total`.

    Raises:
        UserError: When `total` is not a multiple of `world_size`, or a size is not positive.
    """
    if total < 1 or largest < 1:
        raise UserError(
            f"total_batch {total} in parts of at most {largest} images: both must be 1 or more"
        )
    if total % world_size:
        fitting = [n for n in range(1, total + 1) if total % n == 0]
        fewer = max(n for n in fitting if n < world_size)
        more = min((n for n in fitting if n > world_size), default=None)
        raise UserError(
            f"total_batch {total} cannot be split evenly over {world_size} processes: use {fewer}"
            + (f" or {more}" if more else "")
        )
    share = total // world_size
    accumulation = next(a for a in range(1, share + 1) if not share % a and share // a <= largest)
    return share // accumulation, accumulation


def apply_total_batch(cfg: Config, world_size: int) -> str | None:
    """Set batch size and accumulation so that `cfg.total_batch` holds; learning rates stay.

    Schedulers then count updates, and an epoch holds as many of them for every split. A config
    without `total_batch` is left as it is.

    Returns:
        A line for the log.

    Raises:
        UserError: When the learning rate belongs to another total batch; when the config chooses
            an accumulation itself, as one does that an earlier run has written; or when it steps
            its schedulers by a hook of its own, which would count iterations.
    """
    if "total_batch" not in cfg:
        return None
    _check_learning_rate(cfg)
    if (chosen := cfg.optim_wrapper.get("accumulative_counts", 1)) != 1:
        raise UserError(
            f"optim_wrapper.accumulative_counts={chosen} conflicts with total_batch "
            f"{cfg.total_batch}, which derives it: start from the recipe and pass --batch-per-gpu N"
        )
    loader = cfg.train_dataloader
    loader.batch_size, accumulation = split_total_batch(
        cfg.total_batch, loader.batch_size, world_size
    )
    cfg.optim_wrapper.accumulative_counts = accumulation
    stretch_iterations(cfg, accumulation)
    _count_updates(cfg)
    return (
        f"total batch {cfg.total_batch} = {loader.batch_size} per process x {world_size} "
        f"process(es) x {accumulation} accumulation step(s)"
    )


def _count_updates(cfg: Config) -> None:
    """Step schedulers once per update, and end epochs with one."""
    hooks = cfg.setdefault("default_hooks", ConfigDict())
    hook = hooks.setdefault("param_scheduler", ConfigDict(type=_STEPS_ITERATIONS))
    kind = str(hook.type).rpartition(".")[2] if hook else None
    if kind == _STEPS_ITERATIONS:
        hook.type = "milan_mm.UpdateSchedulerHook"
    elif kind not in (None, "UpdateSchedulerHook") and cfg.optim_wrapper.accumulative_counts > 1:
        raise UserError(
            f"default_hooks.param_scheduler.type='{hook.type}' steps schedulers in every "
            f"iteration, and an update has {cfg.optim_wrapper.accumulative_counts}: leave it out, "
            "or use more processes"
        )
    sampler = cfg.train_dataloader.get("sampler") or {}
    if str(sampler.get("type")).rpartition(".")[2] in ("DefaultSampler", "UpdateSampler"):
        sampler.pop("round_up", None)
        sampler.update(type="milan_mm.UpdateSampler", total_batch=cfg.total_batch)


def _check_learning_rate(cfg: Config) -> None:
    """Compare with `auto_scale_lr.base_batch_size`, for which the learning rate was chosen."""
    scaling = cfg.get("auto_scale_lr") or {}
    base = scaling.get("base_batch_size", cfg.total_batch)
    if scaling.get("enable"):
        raise UserError(
            "auto_scale_lr.enable would scale the learning rate by one process's batch, without "
            f"accumulation: leave it off, total_batch {cfg.total_batch} holds on any machine"
        )
    if base != cfg.total_batch:
        lr = _own_rate(cfg)
        raise UserError(
            f"total_batch {cfg.total_batch} differs from {base}, for which the recipe's lr {lr:g} "
            f"was chosen: pass --cfg-options total_batch={cfg.total_batch} and --lr LR, where the "
            f"linear rule would give LR={lr * cfg.total_batch / base:g}"
        )


def _own_rate(cfg: Config) -> float:
    """The learning rate of the recipe's file, whatever the user has set since."""
    own = load(cfg.filename) if cfg.filename else cfg
    return own.optim_wrapper.optimizer.lr
