"""Checkpoints beside those of mmengine's `CheckpointHook`, each of which the next one replaces."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from milan_mm.engine.hooks.saving import point_to

_OURS = "extra_checkpoints"  # in the message hub, hence in each checkpoint: their names


class ExtraCheckpoints:
    """Saves where and how a `CheckpointHook` saves, and leaves the hook's own files alone.

    An extra checkpoint is complete whatever the hook leaves out. `max_keep_ckpts` does not count
    it. It is removed as soon as there is a newer one, the hook's or ours, in a resumed run too.

    Args:
        hook: After its `before_train`.
    """

    def __init__(self, hook: CheckpointHook) -> None:
        self.hook = hook

    def save(self, runner: Runner, iterations: int, epoch: int, again: bool = False) -> str:
        """Save, and let `last_checkpoint` name the file; all processes must call it.

        Args:
            iterations, epoch: Completed ones. In the middle of an epoch it does not count.
            again: Whether to replace the hook's last checkpoint, which has the same weights.

        Returns:
            The path of the file.
        """
        runner.call_hook("before_saving")
        hook, hub = self.hook, runner.message_hub
        template = "iter_{}.pth" if hook.by_epoch else hook.filename_tmpl
        file = Path(hook.last_ckpt).name if again else template.format(iterations)
        path = hook.file_backend.join_path(hook.out_dir, file)
        older = [name for name in self._names(runner) if name != file]
        ours = [] if again else [file]
        hub.update_info("last_ckpt", path)
        hub.update_info(_OURS, [*older, *ours])  # a resumed run removes what is still there
        runner.save_checkpoint(
            hook.out_dir,
            file,
            hook.file_client_args,
            meta=dict(epoch=epoch, iter=iterations),
            by_epoch=False,
            backend_args=hook.backend_args,
            **hook.args,
        )
        if is_main_process():
            point_to(path, runner.work_dir)
        self._remove(older)
        hub.update_info(_OURS, ours)
        return path

    def remove_all(self, runner: Runner) -> None:
        """Remove the extra ones; the hook has just saved its own."""
        self._remove(self._names(runner))
        runner.message_hub.update_info(_OURS, [])

    def _names(self, runner: Runner) -> list[str]:
        return list(runner.message_hub.get_info(_OURS, []))

    def _remove(self, names: list[str]) -> None:
        if not is_main_process():
            return
        backend, newest = self.hook.file_backend, Path(self.hook.last_ckpt or "").name
        for name in names:
            path = backend.join_path(self.hook.out_dir, Path(name).name)
            # in a run that counts other iterations than before, the hook may use the name again
            if name != newest and backend.isfile(path):
                backend.remove(path)
