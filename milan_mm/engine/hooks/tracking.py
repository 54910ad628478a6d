"""The hook by which TensorBoard, W&B and MLflow go on with the curves of a resumed run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend

from milan_mm.files import replacing
from milan_mm.registry import HOOKS

FILE = "trackers.json"  # in a work directory: the names that W&B and MLflow gave its run
# How the two are told which run to go on with, by their own documentation.
_VARIABLES = dict(
    WandbVisBackend=("WANDB_RUN_ID", {"WANDB_RESUME": "allow"}),
    MLflowVisBackend=("MLFLOW_RUN_ID", {}),
)
_RUN_OF: dict[str, Callable[[Any], str]] = dict(
    WandbVisBackend=lambda wandb: wandb.run.id,
    MLflowVisBackend=lambda mlflow: mlflow.active_run().info.run_id,
)


@HOOKS.register_module()
class TrackerHook(Hook):
    """Keeps what a later `--resume` needs, and hides what this run will log again.

    Of a run that was interrupted, trackers have a few iterations that its last checkpoint does not.
    TensorBoard is told where this run starts, so that it drops what it has from there on; W&B and
    MLflow show both.
    """

    def before_train(self, runner: Runner) -> None:
        """Tell TensorBoard the first iteration, and note the names of the runs."""
        if not is_main_process():
            return
        if board := runner.visualizer.get_backend("TensorboardVisBackend"):
            _start_at(board, runner.iter + 1)
        found = {}
        for name, run_of in _RUN_OF.items():
            if backend := runner.visualizer.get_backend(name):
                found[name] = run_of(backend.experiment)
        if found:
            found = read_runs(runner.work_dir) | found
            with replacing(Path(runner.work_dir, FILE)) as path:
                path.write_text(json.dumps(found), encoding="utf-8")


def read_runs(work_dir: str | Path) -> dict[str, str]:
    """Names of a work directory's runs, by backend; none where the file is missing or damaged."""
    try:
        found = json.loads(Path(work_dir, FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def go_on_with(runs: dict[str, str]) -> None:
    """Let W&B and MLflow go on with these runs, unless the environment names others.

    Args:
        runs: See `read_runs`.
    """
    for backend, run in runs.items():
        variable, more = _VARIABLES.get(backend, ("", {}))
        if variable and variable not in os.environ:
            os.environ.update({variable: run} | more)


def _start_at(backend: BaseVisBackend, step: int) -> None:
    """Write the mark from which on TensorBoard drops what other files of the folder have."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer = backend.experiment.file_writer
    writer.add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)), step)
