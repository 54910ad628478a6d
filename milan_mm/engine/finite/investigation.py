"""Finding out what was wrong in an update: all processes together, which then end the run."""

from collections.abc import Callable
from pathlib import Path

from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size
from mmengine.runner import Runner

from milan_mm.engine.finite.faults import Finding, Part, guilty, message, remedy
from milan_mm.engine.finite.report import FaultReport, progress_of
from milan_mm.engine.finite.state import broken_weight, fill, whole_weights
from milan_mm.engine.finite.tracing import Trace, replay
from milan_mm.engine.sharding import is_sharded
from milan_mm.engine.unwrapping import optim_wrappers, unwrapped
from milan_mm.weights.reading import read_checkpoint


def investigate(
    runner: Runner, parts: list[Part], what: Callable[[Part], str], is_damaged: bool, command: str
) -> str:
    """Repeat the update, write the report, and say what happened; in all processes.

    Args:
        parts: Of the update.
        what: Says what was seen of one of them.
        is_damaged: Whether the optimizer has stepped. Then the weights are those of the last
            checkpoint.
        command: Of the run; empty where it is not known.

    Returns:
        See `message`.
    """
    model = unwrapped(runner.model)
    seen = next((part for part in parts if not part.is_finite), parts[0])
    # before anything that might fail, too, or wait for a process that has failed
    runner.logger.error(f"{what(seen)} (iteration {seen.iteration}): repeats the update")
    weights = (runner.message_hub.get_info("last_ckpt") or "") if is_damaged else None
    part, trace, note = _replay(runner, parts, weights)
    finding = Finding.of(part, what(part), trace, "" if is_damaged else broken_weight(model), note)
    findings: list[Finding] = all_gather_object(finding)
    rank = guilty(findings)
    path = Path(runner.work_dir, f"nonfinite_iter_{findings[rank].iteration}.pth")
    report = FaultReport(
        iteration=part.iteration,
        what=finding.what,
        batch=part.batch,
        generators=part.generators,
        state_dict={} if is_damaged else whole_weights(model),
        checkpoint=weights or "",
        progress=progress_of(runner.message_hub)
        | dict(rank=get_rank(), world_size=get_world_size()),
        images=finding.images,
        loss=None if part.loss is None else part.loss.item(),
    )
    problem = _write(report, path) if get_rank() == rank else ""
    problem = all_gather_object(problem)[rank]
    barrier()
    images = sorted({name for finding in findings for name in finding.images})
    if images:
        runner.logger.error(f"images of the batch: {', '.join(images)}")
    return message(findings, model, len(parts), remedy(runner), path, problem, command)


def _replay(runner: Runner, parts: list[Part], weights: str | None) -> tuple[Part, Trace, str]:
    """Repeat the parts of the update, until one shows what is to blame.

    Args:
        weights: Checkpoint to take them from; None takes those of the model.
    """
    model, trace = unwrapped(runner.model), Trace()
    faults = [not part.is_finite for part in parts]
    # all processes repeat the same parts: shards are exchanged on the way
    is_fault = [any(flags) for flags in zip(*all_gather_object(faults), strict=True)]
    parts = [p for p, fault in zip(parts, is_fault, strict=True) if fault] or parts
    if weights == "":
        return parts[0], trace, "it was not replayed, since there is no checkpoint yet"
    try:
        if weights:
            fill(model, read_checkpoint(weights)["state_dict"])
        wrapper = optim_wrappers(runner.optim_wrapper)[0]
        # shards are gathered by what is around the model
        caller = runner.model if is_sharded(runner.model) else model
        traces = [replay(model, wrapper, part.batch, part.generators, caller) for part in parts]
    except Exception as error:  # must not hide what happened
        first = next(iter(str(error).strip().splitlines()), "")
        return parts[0], trace, f"a replay failed, {type(error).__name__}: {first}"
    for part, trace in zip(parts, traces, strict=True):
        if trace.first is not None:
            return part, trace, ""
    same = f" with the weights of {weights}" if weights else ""
    return parts[0], trace, f"a replay{same} was finite"


def _write(report: FaultReport, path: Path) -> str:
    """Write the report; why it could not be written, or nothing."""
    try:
        report.write(path)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
