"""What was logged long ago leaves the memory, and does not make checkpoints grow."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.registry import HOOKS


@HOOKS.register_module()
class HistoryHook(Hook):
    """Keeps of each logged value as many as the log takes its means of.

    mmengine keeps a million of each, and copies them all at every iteration and into every
    checkpoint: 92 bytes per iteration. The log reads the last `window_size` of them, or those of an
    epoch; where a config takes the mean of the whole run (`window_size='global'`), all are kept.
    """

    priority = "VERY_HIGH"  # before the values of the iteration are added

    def before_run(self, runner: Runner) -> None:
        """Note how many values the log reads."""
        processor = runner.log_processor
        # the means of validations are over all their batches
        self._epochs = {"val/time", "val/data_time"}
        self._all: set[str] = set()
        self._longest = int(processor.window_size)
        for custom in processor.custom_cfg:
            source, window = custom["data_src"], custom.get("window_size")
            names = {source, f"train/{source}", f"val/{source}"}
            if window == "epoch":
                self._epochs |= names
            elif isinstance(window, int):
                self._longest = max(self._longest, window)
            elif window == "global" or custom.get("method_name") != "current":
                self._all |= names

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Forget what is older."""
        self._forget(runner, batch_idx)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Forget what is older."""
        self._forget(runner, batch_idx)

    def _forget(self, runner: Runner, batch_idx: int) -> None:
        for name, history in runner.message_hub.log_scalars.items():
            if name not in self._all and not name.startswith("test/"):
                epoch = batch_idx + 1 if name in self._epochs else 0
                history.max_length = max(self._longest, epoch)
