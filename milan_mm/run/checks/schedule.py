"""Is a training worth starting? What its plan shows before the first update."""

import numpy as np

from milan_mm.errors import UserError
from milan_mm.run.schedule.plan import Plan
from milan_mm.run.schedule.rates import ENDLESS, Part
from milan_mm.run.schedule.updates import LIMIT

FEWEST_UPDATES = 5  # of a recipe that counts epochs; one that counts updates may have fewer
LONGEST_WARM_UP = 0.5  # share of the run
LOW, CLIMB = 0.1, 0.1  # shares of the highest rate: where a fall ends, and what counts as a climb
_MADE_TO_CLIMB = ("CosineRestartLR", "OneCycleLR")


def check_plan(plan: Plan) -> None:
    """Refuse a training that cannot make sense; trials may be as short as they are.

    Raises:
        UserError: For fewer images or updates than a training needs, for a schedule that is longer
            or shorter than the run, for rates that end in the warm-up or climb again, and for a
            training that never validates or writes no checkpoint.
    """
    _check_images(plan)
    _check_units(plan)
    for part in plan.parts:
        _check_length(plan, part)
    if plan.rates is not None:
        _check_rates(plan, plan.rates)
    if not plan.is_trial:
        _check_number(plan)
        _check_results(plan)


def _check_images(plan: Plan) -> None:
    made = plan.updates
    if made.total == 0 or (made.images < made.total_batch and not plan.is_trial):
        raise UserError(
            f"{made.images} training images make no update of {made.total_batch} images: "
            + smaller_batch(plan)
        )


def smaller_batch(plan: Plan) -> str:
    """The options for a total batch that fits the images, with the rate of the linear rule."""
    made = plan.updates
    fitting = made.processes
    while 8 * fitting <= made.images:  # at least four updates in an epoch
        fitting *= 2
    if plan.is_trial:
        return f"pass --cfg-options train_dataloader.batch_size={max(fitting // made.processes, 1)}"
    options = f"pass --cfg-options total_batch={fitting}"
    per_epoch = made.images // fitting
    if made.epochs is not None and _needs_epochs(plan, made.epochs * per_epoch):
        options += f" --epochs {max(made.epochs, _enough_epochs(per_epoch))}"
    if plan.lr is not None:
        options += f" --lr {plan.lr * fitting / made.total_batch:.3g}"
    return options + " (the linear rule), or --quick for a trial"


def _check_units(plan: Plan) -> None:
    for part in plan.parts:
        follows_results = getattr(part.scheduler, "need_val_args", False)
        if follows_results and not part.scheduler.by_epoch:
            raise UserError(
                f"{part.name} follows validations, and mmengine steps it with their results only "
                "where by_epoch=True, in a run that counts iterations too: leave its by_epoch out"
            )
        if part.scheduler.by_epoch and plan.updates.epochs is None and not follows_results:
            raise UserError(
                f"{part.name} counts epochs, and the run counts iterations: it would never move. "
                "Set its by_epoch=False, and its lengths in updates"
            )


def _check_length(plan: Plan, part: Part) -> None:
    """Compare a scheduler with the run, both in updates; rounding may cost one."""
    scheduler, total = part.scheduler, plan.updates.total
    spans = [getattr(scheduler, key, None) or 0 for key in ("T_max", "total_steps")]
    ends = [scheduler.begin + span for span in spans]
    if scheduler.end < ENDLESS:
        ends.append(scheduler.end)
    ends += [at + 1 + scheduler.begin for at in getattr(scheduler, "milestones", ())]
    end = plan.in_updates(part, max(ends))
    too_long = end > total + (0 if hasattr(scheduler, "milestones") else 1)
    if too_long or (end < total - 1 and _falls(plan, part) and not _is_taken_over(plan, end)):
        raise UserError(f"{part.name} lasts until {_place(plan, part, end)}: {_remedy(plan, part)}")


def _is_taken_over(plan: Plan, end: float) -> bool:
    """Whether another scheduler goes on where one ends, as the last, constant part of YOLOX."""
    return any(
        0 < plan.in_updates(part, part.scheduler.begin) <= end + 1
        and plan.in_updates(part, part.scheduler.end) > end + 1
        for part in plan.parts
    )


def _falls(plan: Plan, part: Part) -> bool:
    if plan.rates is None:
        return False
    begin = plan.in_updates(part, part.scheduler.begin)
    end = min(plan.in_updates(part, part.scheduler.end), plan.updates.total)
    return plan.rates[end - 1] < plan.rates[min(begin, end - 1)]


def _place(plan: Plan, part: Part, end: float) -> str:
    made = plan.updates
    if part.in_epochs and made.epochs is not None:
        return f"epoch {end / made.per_epoch:.3g}, the run until {made.epochs}"
    last = round(end) - part.warms_up  # the first update at the full rate is none of the warm-up
    return f"update {last}, the run until {made.total}"


def _remedy(plan: Plan, part: Part) -> str:
    if plan.updates.epochs is not None and not part.in_epochs:
        if part.warms_up:
            return _limiting_epochs(plan)
        return "state its lengths in updates of this run"
    option = "--iters" if plan.updates.epochs is None else "--epochs"
    return f"pass {option} N, which moves the whole schedule, or set its lengths yourself"


def _limiting_epochs(plan: Plan) -> str:
    """The option that shortens a warm-up which counts updates, see `milan_mm.run.schedule`."""
    own, enough = plan.updates.epochs or 0, _enough_epochs(plan.updates.per_epoch)
    option = f"pass --epochs {enough} or more"
    if enough <= own:  # long enough: it is the option that makes the difference
        option = f"state the run's length by --epochs {own}, or another one"
    return f"{option}, which limits the warm-up to {LIMIT}; or --quick alone for a trial"


def _enough_epochs(per_epoch: int) -> int:
    return -(-FEWEST_UPDATES // max(per_epoch, 1))


def _needs_epochs(plan: Plan, total: int) -> bool:
    """Whether a run of so many updates is too short, for itself or for its warm-up."""
    ends = [p.scheduler.end for p in plan.parts if p.warms_up and not p.in_epochs]
    return total < FEWEST_UPDATES or any(end - 1 > LONGEST_WARM_UP * total for end in ends)


def _check_rates(plan: Plan, rates: np.ndarray) -> None:
    highest = rates.max()
    if plan.warmup_updates > LONGEST_WARM_UP * rates.size and not plan.is_trial:
        option = "--iters" if plan.updates.epochs is None else "--epochs"
        remedy = f"pass {option} N, which moves the whole schedule, or shorten the warm-up"
        if plan.updates.epochs and any(p.warms_up and not p.in_epochs for p in plan.parts):
            remedy = _limiting_epochs(plan)
        raise UserError(
            f"the warm-up of {plan.warmup_updates} updates is more than half of the run's "
            f"{plan.updates}: {remedy}"
        )
    if any(type(part.scheduler).__name__ in _MADE_TO_CLIMB for part in plan.parts):
        return
    after = rates[plan.warmup_updates :]
    lowest = np.minimum.accumulate(after)
    climbs = (lowest <= LOW * highest) & (after > lowest + CLIMB * highest)
    if climbs.any():
        bottom = plan.warmup_updates + int(after[: climbs.argmax()].argmin())
        option = "--iters" if plan.updates.epochs is None else "--epochs"
        raise UserError(
            f"the learning rate falls to {rates[bottom]:.3g} at update {bottom} of {rates.size} "
            f"and climbs again to {rates[bottom:].max():.3g}: the schedule is shorter than the "
            f"run; pass {option} N, which moves the whole schedule, or state T_max and end"
        )


def _check_number(plan: Plan) -> None:
    made = plan.updates
    if made.epochs is not None and made.total < FEWEST_UPDATES:
        raise UserError(
            f"{made.images} training images at a total batch of {made.total_batch} make {made} in "
            f"all, fewer than {FEWEST_UPDATES}: pass --epochs {_enough_epochs(made.per_epoch)} or "
            "more, or --quick alone for a trial"
        )


def _check_results(plan: Plan) -> None:
    if plan.val_images is not None and not plan.evaluations:
        raise UserError(
            "the run would never validate: its train_cfg.val_begin is after its end; set it to 1"
        )
    if plan.checkpoints == 0:
        raise UserError(
            "the run would write no checkpoint: set default_hooks.checkpoint.interval to less than "
            "its length, or default_hooks.checkpoint.save_last=True"
        )
