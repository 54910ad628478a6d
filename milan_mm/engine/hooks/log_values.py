"""How hooks of this package add numbers of their own to mmengine's log."""

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner


def logs_now(runner: Runner, batch_idx: int) -> bool:
    """Whether mmengine's `LoggerHook` may log after this training iteration.

    Args:
        batch_idx: As hooks get it, from 0.
    """
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook):
            return hook.every_n_inner_iters(batch_idx, hook.interval) or hook.end_of_epoch(
                runner.train_dataloader, batch_idx
            )
    return False


def log_value(runner: Runner, name: str, value: float) -> None:
    """Let the next log line have a number, as it is.

    mmengine averages what its pattern of names finds over the last values. A number that is
    averaged already replaces the one before, and checkpoints do not carry it along.
    """
    key = f"train/{name}"
    runner.message_hub.log_scalars.pop(key, None)
    runner.message_hub.update_scalar(key, value, resumed=False)
