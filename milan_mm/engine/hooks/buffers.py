"""The hook that lets all processes validate the same model."""

from mmengine.dist import broadcast, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner


class BuffersHook(Hook):
    """Gives all processes the first one's buffers before a validation, as a checkpoint would.

    Each process gathers its own running means and variances where BatchNorm does not add up those
    of all, as on CPUs. Checkpoints have the first process's. So after a resume another model would
    be validated than in the undisturbed run, and `tools/test.py` would find other results. Training
    does not read them, so nothing is exchanged in between.

    It costs a broadcast of each buffer per validation; nothing on a single process.

    Not for configs: `milan_mm.run.training` adds it to every training.
    """

    priority = "HIGHEST"

    def before_val_epoch(self, runner: Runner) -> None:
        """Exchange them, those of an average of the weights too."""
        if not is_distributed():
            return
        averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        for model in (runner.model, *averages):
            for buffer in model.buffers():
                if buffer.is_floating_point():  # counters are equal anyway
                    broadcast(buffer)
