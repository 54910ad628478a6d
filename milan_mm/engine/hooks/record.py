"""The hook that writes the record of a run into its checkpoints."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner


class RecordHook(Hook):
    """Writes what is known about the run into `meta` of each checkpoint.

    Not for configs: `milan_mm.run.training` adds it, once everything is built.

    Args:
        key: The entry of `meta`.
        record: Of plain types, see `milan_mm.run.records.record`.
    """

    def __init__(self, key: str, record: dict[str, Any]) -> None:
        self.key = key
        self.record = record

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the record, in place."""
        checkpoint["meta"][self.key] = self.record
