"""What a process knows about a loss or gradient that is not finite, and how it is said."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from torch import Tensor, nn

from milan_mm.engine.finite.batches import broken_images, image_names
from milan_mm.engine.finite.tracing import Row, Trace
from milan_mm.text import shorten_list


@dataclass
class Part:
    """What an iteration of the update at hand learns from.

    Attributes:
        iteration: Of the run, from 1.
        batch: As it came from the data loader.
        generators: Their states when the step began.
        loss: () float32, on the device of the model; None until it is computed.
    """

    iteration: int
    batch: Any
    generators: dict | None = None
    loss: Tensor | None = None

    @property
    def is_finite(self) -> bool:
        """As far as it is known."""
        return self.loss is None or bool(self.loss.isfinite())


@dataclass(frozen=True)
class Finding:
    """What one process found out; small enough to be sent to all others.

    Attributes:
        iteration: Of the batch that is to blame.
        what: E.g. 'the loss is nan'.
        is_own: Whether the loss of this very process is not finite.
        first: The first tensor of a replay that is not finite.
        weight: Name of a weight that is not finite; empty where all are.
        images: Paths of the batch.
        broken: Which of them came with NaN or infinity, and where.
        note: Why there is nothing in `first`.
    """

    iteration: int
    what: str
    is_own: bool
    first: Row | None
    weight: str
    images: list[str]
    broken: list[str]
    note: str

    @classmethod
    def of(cls, part: Part, what: str, trace: Trace, weight: str, note: str) -> "Finding":
        """Look at the batch, too."""
        return cls(
            iteration=part.iteration,
            what=what,
            is_own=not part.is_finite,
            first=trace.first,
            weight=weight,
            images=image_names(part.batch),
            broken=broken_images(part.batch),
            note=note,
        )

    @property
    def guilt(self) -> int:
        """How likely it is that this process's share of the batch is to blame."""
        if self.broken:
            return 3
        return 2 if self.is_own else int(self.first is not None)


def guilty(findings: list[Finding]) -> int:
    """Rank of the process whose share of the batch is most likely to blame."""
    return max(range(len(findings)), key=lambda rank: (findings[rank].guilt, -rank))


def message(
    findings: list[Finding],
    model: nn.Module,
    parts: int,
    advice: str,
    path: Path,
    problem: str,
    command: str,
) -> str:
    """What happened, where, and to which images; what helps, and how to see it again.

    Args:
        findings: Of all processes, by rank.
        parts: Iterations of an update.
        advice: For faults that are not of an image.
        path: Of the report. problem: Why it was not written; empty where it was.
        command: Of the run; empty where it is not known.
    """
    rank = guilty(findings)
    found = findings[rank]
    where = f"iteration {found.iteration}"
    if parts > 1:
        where += f", update {-(-found.iteration // parts)}"
    process = f", process {rank} of {len(findings)}" if len(findings) > 1 else ""
    lines = [f"{found.what} ({where}{process})"]
    if found.weight:
        lines.append(f"the weight {found.weight} is not finite")
    if found.first is not None:
        lines.append(f"first {found.first.kinds}: {_place(found.first, model)}")
    elif found.note:
        lines.append(found.note)
    broken = [name for finding in findings for name in finding.broken]
    if broken:
        advice = "mend or remove these images, then --resume"
        lines.append(f"images that are not finite: {shorten_list(broken)}")
    elif found.images:
        lines.append(f"images: {shorten_list(found.images, 3)}")
    again = f"to repeat this step: {command or 'the same command'} --replay {path}"
    if problem:
        again = f"no report was written ({problem})"
    return f"{'; '.join(lines)}: {advice}; {again}"


def _place(row: Row, model: nn.Module) -> str:
    if not row.module:
        return f"the loss itself, which {type(model).__name__} computes from finite outputs"
    return f"the {row.what} of {row.module} ({row.share:.2g} of its values)"


def remedy(runner: Runner) -> str:
    """Only what this run can do: it may have no checkpoint yet, and may clip gradients already."""
    last = runner.message_hub.get_info("last_ckpt")
    start = f"start a new run from {last} (--init-from FILE)" if last else "start again"
    clip = (
        ""
        if getattr(runner.optim_wrapper, "clip_grad_kwargs", None)
        else " or with gradient clipping (--cfg-options optim_wrapper.clip_grad.max_norm=1.0)"
    )
    return f"{start} with a lower learning rate (--lr){clip}"
