"""The file of a step that was not finite, from which it can be repeated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import nn

from milan_mm.engine.finite.batches import from_plain, to_plain
from milan_mm.engine.generators import set_generators
from milan_mm.errors import UserError
from milan_mm.files import replacing
from milan_mm.weights.reading import read_checkpoint

VERSION = 1
_KEY = "nonfinite_report"
_FIELDS = ("iteration", "what", "batch", "generators", "state_dict", "progress", "images")


@dataclass(frozen=True)
class FaultReport:
    """Everything that a step depended on.

    Attributes:
        iteration: Of the run, from 1.
        what: 'the loss is nan', for people.
        batch: As it came from the data loader.
        generators: See `generator_states`; None where they were not noted.
        state_dict: Of the model before the optimizer's step; empty where `checkpoint` has it.
        checkpoint: Path of the checkpoint with the weights; empty where they are in the file.
        progress: What mmengine's message hub knew: iteration, epoch, iterations of an update.
        images: Paths of the batch.
        loss: That the run had; None where it is not known.
    """

    iteration: int
    what: str
    batch: Any
    generators: dict[str, Any] | None
    state_dict: dict[str, Any]
    progress: dict[str, Any]
    images: list[str]
    checkpoint: str = ""
    loss: float | None = None

    def write(self, path: str | Path) -> None:
        """Write the file; it appears whole, or not at all.

        Raises:
            OSError: The disk is full or not writable.
        """
        content = vars(self) | {_KEY: VERSION, "batch": to_plain(self.batch)}
        with replacing(path) as partial:
            torch.save(content, partial)

    def prepare(self, model: nn.Module) -> None:
        """Let a model and this process be in the state in which the step began.

        Raises:
            UserError: When the weights are of another model, or gone.
        """
        tensors = self.state_dict
        if self.checkpoint:
            tensors = read_checkpoint(self.checkpoint).get("state_dict") or {}
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(
                f"the report is of another model ({reason}): repeat the command of its run, with "
                "--replay added"
            ) from None
        hub = MessageHub.get_current_instance()
        for name, value in self.progress.items():
            hub.update_info(name, value)


def progress_of(hub: MessageHub) -> dict[str, Any]:
    """Numbers and words that a message hub knows about a run."""
    known = hub.runtime_info.items()
    return {name: v for name, v in known if isinstance(v, (bool, int, float, str))}


def read_report(path: str | Path) -> FaultReport:
    """Read a file that `FaultReport.write` has written, or anybody else.

    Raises:
        MissingFileError: There is no such file.
        UserError: It is damaged, of another kind, or would have to run code to be read.
    """
    content = read_checkpoint(path)
    if content.get(_KEY) != VERSION or any(name not in content for name in _FIELDS):
        raise UserError(f"'{path}' is not the report of a run that stopped: give nonfinite_*.pth")
    names = FaultReport.__dataclass_fields__
    fields = {name: value for name, value in content.items() if name in names}
    try:
        report = FaultReport(**fields | {"batch": from_plain(fields["batch"])})
        if report.generators is not None:
            set_generators(report.generators)
        if not isinstance(report.progress, dict) or not isinstance(report.state_dict, dict):
            raise TypeError("a list in the place of names and values")
        texts = [*report.progress, *report.state_dict, *report.images, report.checkpoint]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("names that are not text")
        return report
    except UserError:
        raise
    except Exception as error:  # whoever wrote it may have written anything
        raise UserError(f"'{path}' is damaged: {type(error).__name__}: {error}") from None
