"""Checkpoints of a run: an old one goes when the new one is there; `last_checkpoint` is whole."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine import hooks
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from milan_mm.engine.checkpoints import AtomicLocalBackend
from milan_mm.engine.hooks.updates import has_updated
from milan_mm.registry import HOOKS

LAST = "last_checkpoint"


@HOOKS.register_module()
class CheckpointHook(hooks.CheckpointHook):
    """mmengine's hook, for runs that may be killed at any moment or find a full disk.

    mmengine removes an old checkpoint, and the best so far, before it writes the one that takes its
    place. It writes the text of `last_checkpoint` in place, with the path of this machine; here it
    is the path from the work directory, and the folder can be moved. Where it is time in the middle
    of an update, it saves at its end: no checkpoint holds the gradients of a part.

    Runs of this package use this hook wherever a config has mmengine's; arguments are the same.
    """

    keep_ckpt_ids: deque[int]
    file_backend: Any
    is_due = False  # at the end of the update

    def before_train(self, runner: Runner) -> None:
        """Take over the list of checkpoints that are kept."""
        super().before_train(runner)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(self.keep_ckpt_ids)  # one more, for a while

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save if it is time, or was in an earlier part of the update that now ends."""
        if not (self.is_due and has_updated(runner.optim_wrapper)):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            return
        done = runner.iter + 1
        runner.logger.info(f"Saving checkpoint at {done} iterations, the end of an update")
        step = runner.epoch if self.by_epoch else done
        self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=done))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Save, point to it, and only then remove those that are too many.

        In the middle of an update it is only noted that it is time.
        """
        self.is_due = not has_updated(runner.optim_wrapper)
        if self.is_due:
            return
        runner.call_hook("before_saving")
        outdated = self._outdate(step) if self.max_keep_ckpts > 0 else []
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            point_to(self.last_ckpt, runner.work_dir)
            for path in outdated:
                if path != self.last_ckpt:  # a template without a number
                    self._remove(path)

    def _outdate(self, step: int) -> list[str]:
        """Note a step that is going to be saved; returns the files that then are too many."""
        if not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step:
            self.keep_ckpt_ids.append(step)
        outdated = []
        while len(self.keep_ckpt_ids) > self.max_keep_ckpts:
            name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
            outdated.append(self.file_backend.join_path(self.out_dir, name))
        return outdated

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # of other strategies
            self.file_backend.rmtree(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best so far, and only then remove the one before."""
        with self._removing_later():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_later(self) -> Iterator[None]:
        """Let what is removed in the block stay until its end, and after an error."""
        backend, later = self.file_backend, _Later(self.file_backend)
        self.file_backend = later
        try:
            yield
        finally:
            self.file_backend = backend
        best = getattr(self, "best_ckpt_path_dict", {}).values()
        kept = {getattr(self, "best_ckpt_path", None), *best, self.last_ckpt}
        for remove, path in later.removals:
            if path not in kept:  # the new one may have the same name
                remove(path)


class _Later:
    """A file backend that notes what is to be removed."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.removals: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.removals.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self._backend.rmtree, path))


def point_to(checkpoint: str, work_dir: str) -> None:
    """Let `last_checkpoint` name a checkpoint, in one step.

    Args:
        checkpoint: Its path, or its address elsewhere.
        work_dir: Where `last_checkpoint` is.
    """
    text = checkpoint if "://" in checkpoint else os.path.relpath(checkpoint, work_dir)
    AtomicLocalBackend().put_text(text, Path(work_dir, LAST))
