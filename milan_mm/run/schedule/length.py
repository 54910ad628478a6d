"""`--epochs`, `--iters` and `--lr`: another length and another rate, with all that depends on them.

A shorter run is the recipe in fast motion: its warm-up, decay and milestones keep their share of
the whole. Where that would leave next to nothing, of a warm-up or between two evaluations, the
recipe's own length counts, up to a share of the run. A warm-up that counts updates, in a run that
counts epochs, is limited when the data are known, see `milan_mm.run.schedule.updates`.
"""

from mmengine.config import Config, ConfigDict

from milan_mm.errors import UserError
from milan_mm.run.records.record import keep_origin
from milan_mm.run.schedule.schedules import hooks, is_iter_based, scale_lengths, schedulers
from milan_mm.run.schedule.updates import LIMIT, NEW_LENGTH, is_warm_up
from milan_mm.text import count

LEAST_WARM_UP = 0.05  # share of the run up to which the recipe's own warm-up is kept
MOST_INTERVALS = 10  # evaluations of a shorter run, and checkpoints, unless the recipe has fewer
_SPANS = ("T_max", "total_steps")  # often the whole range of a scheduler


def set_length(cfg: Config, epochs: int | None, iters: int | None) -> list[str]:
    """Train for another number of epochs or updates, in place.

    Args:
        epochs, iters: One of them, in the unit that the recipe counts in; None for both leaves the
            recipe as it is.

    Returns:
        A line for the log.

    Raises:
        UserError: When the recipe counts in the other unit.
    """
    if epochs is None and iters is None:
        return []
    _check_unit(cfg, epochs, iters)
    key, unit = ("max_iters", "update") if epochs is None else ("max_epochs", "epoch")
    length, before = epochs or iters or 0, cfg.train_cfg[key]
    cfg.train_cfg[key] = length
    _set_intervals(cfg, epochs is not None, before, length)
    _set_schedulers(cfg, epochs is not None, before, length)
    change = "as in the recipe" if length == before else f"instead of {before}"
    note = f"{count(length, unit)} {change}: schedule, evaluations and checkpoints follow"
    if epochs is not None and any(
        is_warm_up(s) and not s.get("by_epoch", True) for s in schedulers(cfg)
    ):
        keep_origin(cfg, **{NEW_LENGTH: True})
        note += f"; the warm-up counts updates, at most {LIMIT}"
    return [note]


def set_rate(cfg: Config, lr: float | None) -> list[str]:
    """Set the learning rate that belongs to the total batch, in place; the last rate stays.

    Args:
        lr: The highest rate, before layer decay; None leaves the recipe as it is.

    Returns:
        A line for the log.

    Raises:
        UserError: When the recipe has no single optimizer, or falls to a rate that is not lower.
    """
    if lr is None:
        return []
    optimizer = ConfigDict((cfg.get("optim_wrapper") or {}).get("optimizer") or {})
    if "lr" not in optimizer:
        raise UserError(
            f"--lr {lr:g}: {cfg.filename} has no optim_wrapper.optimizer.lr: set the rates of its "
            "optimizers by --cfg-options"
        )
    before = optimizer.lr
    for scheduler in schedulers(cfg):
        if not str(scheduler.type).endswith("LR"):
            continue
        if ratio := scheduler.get("eta_min_ratio"):
            scheduler.eta_min_ratio = ratio * before / lr
        lowest = scheduler.get("eta_min") or (ratio or 0) * before
        if lowest >= lr:
            raise UserError(
                f"--lr {lr:g} is not above {lowest:g}, to which the recipe's {scheduler.type} "
                "falls: give a higher rate, or set the scheduler's eta_min or eta_min_ratio"
            )
    cfg.optim_wrapper.optimizer.lr = lr
    return [f"learning rate {lr:g} instead of {before:g}"]


def _check_unit(cfg: Config, epochs: int | None, iters: int | None) -> None:
    if epochs is not None and iters is not None:
        raise UserError(
            "--epochs and --iters exclude each other: give the one that fits the recipe"
        )
    if epochs is not None and is_iter_based(cfg):
        raise UserError(
            f"--epochs {epochs}: the recipe counts updates, {cfg.train_cfg.max_iters} of them: "
            "pass --iters N (an epoch has images / total batch of them)"
        )
    if iters is not None and not is_iter_based(cfg):
        raise UserError(
            f"--iters {iters}: the recipe counts epochs, {cfg.train_cfg.max_epochs} of them: pass "
            "--epochs N"
        )


def _set_intervals(cfg: Config, by_epoch: bool, before: int, length: int) -> None:
    """Those of the loop, and of hooks that count in its unit."""
    nodes = [cfg.train_cfg]
    for hook in hooks(cfg):
        default = True if str(hook.type).endswith("CheckpointHook") else None
        if hook.get("by_epoch", default) is by_epoch:
            nodes.append(hook)
    for node in nodes:
        for key in ("val_interval", "interval"):
            if (node.get(key) or 0) > 0:
                node[key] = _interval(node[key], before, length)
        for key in ("val_begin", "save_begin"):
            if node.get(key):
                node[key] = _count(node[key] * length / before)
    if changes := cfg.train_cfg.get("dynamic_intervals"):
        cfg.train_cfg.dynamic_intervals = [
            (_count(at * length / before), _interval(interval, before, length))
            for at, interval in changes
        ]


def _interval(interval: int, before: int, length: int) -> int:
    """As often in a shorter run, up to a limit; not more rarely in a longer one.

    An interval that was the whole run stays the whole run.
    """
    if interval >= before:
        return length
    as_often = max(round(interval * length / before), 1)
    return min(interval, max(as_often, -(-length // MOST_INTERVALS)))


def _set_schedulers(cfg: Config, by_epoch: bool, before: int, length: int) -> None:
    entries = schedulers(cfg)
    _move([s for s in entries if s.get("by_epoch", True) == by_epoch], before, length)
    for scheduler in entries:
        if scheduler.get("by_epoch", True) != by_epoch:
            # its share of the run is not known here; a warm-up that was long enough still is
            most = 1.0 if is_warm_up(scheduler) else float("inf")
            scale_lengths(scheduler, min(length / before, most))


def _move(parts: list[ConfigDict], before: int, length: int) -> None:
    """Move schedulers that count in the unit of the run."""
    hand_overs = {
        part.end: max(part.end * length / before, min(part.end, LEAST_WARM_UP * length))
        for part in parts
        if is_warm_up(part) and part.end < before
    }

    def moved(position: float) -> float:
        return hand_overs.get(position, position * length / before)

    for part in parts:
        keeps_fractions = part.get("convert_to_iter_based", False)
        spans = [k for k in _SPANS if part.get(k) == part.get("end", before) - part.get("begin", 0)]
        for key in ("begin", "end"):
            if key in part:
                part[key] = _count(moved(part[key]), keeps_fractions, int(key == "end"))
        for key in _SPANS:
            if key in spans:
                part[key] = part.get("end", length) - part.get("begin", 0)
            elif part.get(key):
                part[key] = _count(part[key] * length / before, keeps_fractions)
        if part.get("step_size"):
            part.step_size = _count(part.step_size * length / before)
        for key in ("milestones", "periods"):
            if key in part:
                counts = [_count(value * length / before) for value in part[key]]
                part[key] = [c for c in counts if c < length or key == "periods"]


def _count(value: float, keeps_fractions: bool = False, least: int = 1) -> float:
    """A whole number where no conversion follows; part of an epoch becomes updates later."""
    whole = max(round(value), least)
    return whole if not keeps_fractions or whole == value else value
