"""Trackers of a training, by one option each, and what is looked at while a pretraining runs.

All goes through mmengine's visualizer, so the curves are in the work directory's `scalars.json` as
well, and only the main process writes.
"""

import argparse
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from milan_mm.datasets.class_folders import class_names
from milan_mm.datasets.folders import find_class_folders
from milan_mm.engine.hooks.tracking import go_on_with, read_runs
from milan_mm.errors import UserError
from milan_mm.run.options import KNN_LIMIT
from milan_mm.run.schedule.schedules import is_iter_based
from milan_mm.text import shorten_list

# mmengine's backend -> its package, which is also the name of our extra and of the option
PACKAGES = dict(
    TensorboardVisBackend="tensorboard", WandbVisBackend="wandb", MLflowVisBackend="mlflow"
)
BOARD = "tensorboard"  # folder of a work directory
_TRIAL_LIMIT = 200  # images of --knn-data in a trial
# of a config, for MLflow, which takes a value once and for all
_MLFLOW_KEYS = (
    "model",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "total_batch",
    "randomness",
)


@dataclass(frozen=True)
class Tracking:
    """What a user asks to be logged.

    Attributes:
        tensorboard: Whether TensorBoard gets the curves.
        wandb: The project for W&B. mlflow: A server's URI or an experiment's name, for MLflow.
        pictures_interval: Iterations between two pictures.
        knn_data: Labelled images. knn_interval: Epochs. knn_limit: Most images of each split.
    """

    tensorboard: bool = False
    wandb: str | None = None
    mlflow: str | None = None
    pictures_interval: int | None = None
    knn_data: str | None = None
    knn_interval: int | None = None
    knn_limit: int | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Tracking":
        """The options of tools/train.py."""
        return cls(**{name: getattr(args, name) for name in cls.__dataclass_fields__})

    @property
    def backends(self) -> list[str]:
        """The backends that the options name."""
        return [name for name, package in PACKAGES.items() if getattr(self, package)]


def check_trackers(backends: Iterable[str]) -> None:
    """Look for the packages that backends need.

    Args:
        backends: Names of backends of mmengine; those that need nothing are passed over.

    Raises:
        UserError: When one is missing, with the command that installs it.
    """
    for backend in backends:
        package = PACKAGES.get(backend.rpartition(".")[2])
        if package and not _is_installed(package):
            raise UserError(
                f"--{package} ({backend}) needs the package {package}, which is not installed: "
                f"pip install 'milan_mm[{package}]'"
            )


def add_trackers(cfg: Config, tracking: Tracking, trial: bool = False) -> list[str]:
    """Let a run log as the options say, in place.

    Args:
        cfg: With a work directory.
        trial: Whether the run is cut down to a few iterations.

    Returns:
        Lines for the log.

    Raises:
        UserError: When a package is missing, also of a backend that the config names itself, or an
            option does not go with the recipe.
    """
    _check_task(cfg, tracking)
    backends = _backends(cfg)
    for backend in backends:
        # in a config that another run saved: its curves would be taken for repeated and hidden
        if Path(backend.get("save_dir", "")).name == BOARD:
            backend.save_dir = _board(cfg)
    add: dict[str, Callable[[Config, Tracking], tuple[dict, str]]] = dict(
        TensorboardVisBackend=_tensorboard, WandbVisBackend=_wandb, MLflowVisBackend=_mlflow
    )
    notes = []
    for name in tracking.backends:
        settings, note = add[name](cfg, tracking)
        backends[:] = [b for b in backends if _kind(b) != name]  # the option has the last word
        backends.append(ConfigDict(settings))
        notes.append(note)
    names = [_kind(backend) for backend in backends]
    check_trackers(names)
    is_tracked = any(name in PACKAGES for name in names)
    if is_tracked:
        _add_hook(cfg, type="milan_mm.TrackerHook")
        # one x-axis: by default mmengine counts epochs for metrics, and iterations for all else
        hooks = cfg.setdefault("default_hooks", ConfigDict())
        logger = hooks.setdefault("logger", ConfigDict(type="LoggerHook"))
        if logger:
            logger.setdefault("log_metric_by_epoch", False)
    if tracking.pictures_interval or (is_tracked and _is_pretraining(cfg)):
        _add_hook(cfg, type="milan_mm.PicturesHook", interval=tracking.pictures_interval)
    if tracking.knn_data:
        limit = tracking.knn_limit or (_TRIAL_LIMIT if trial else KNN_LIMIT)
        _add_hook(
            cfg,
            type="milan_mm.KnnHook",
            data=tracking.knn_data,
            interval=tracking.knn_interval,
            limit=limit,
        )
    return notes


def leave_trackers(cfg: Config, fixed: Iterable[str]) -> None:
    """Let a test leave the curves of the training alone, in place.

    Args:
        fixed: Dotted names of the fields that the user set: backends named there stay.

    Raises:
        UserError: When a package is missing that those need.
    """
    backends = _backends(cfg)
    if any(name.startswith("visualizer") for name in fixed):
        check_trackers(map(_kind, backends))
    else:
        backends[:] = [backend for backend in backends if _kind(backend) not in PACKAGES]


def resume_trackers(cfg: Config) -> list[str]:
    """Let W&B and MLflow go on with the runs that a resumed training had.

    Args:
        cfg: Of a training that goes on in its own work directory.

    Returns:
        Lines for the log.
    """
    runs, here = read_runs(cfg.work_dir), [_kind(backend) for backend in _backends(cfg)]
    go_on_with({name: run for name, run in runs.items() if name in here})
    for backend in _backends(cfg):
        if _kind(backend) == "MLflowVisBackend":
            backend.tracked_config_keys = []  # they are there, and may not be set again
    before = [*runs, *(["TensorboardVisBackend"] * Path(cfg.work_dir, BOARD).is_dir())]
    left_out = [f"--{PACKAGES[name]}" for name in before if name in PACKAGES and name not in here]
    if not left_out:
        return []
    return [f"the run was tracked so far: {' '.join(left_out)} would go on with its curves"]


def _tensorboard(cfg: Config, tracking: Tracking) -> tuple[dict, str]:
    settings = dict(type="TensorboardVisBackend", save_dir=_board(cfg))
    return settings, f"TensorBoard: tensorboard --logdir {cfg.work_dir}"


def _board(cfg: Config) -> str:
    """Beside the folders of single starts, so that a resumed run is one curve."""
    return str(Path(cfg.work_dir, BOARD))


def _wandb(cfg: Config, tracking: Tracking) -> tuple[dict, str]:
    name = Path(cfg.work_dir).name
    settings = dict(
        type="milan_mm.WandbVisBackend",
        init_kwargs=dict(project=tracking.wandb, name=name, dir=cfg.work_dir),
        # else the x-axis would count calls
        define_metric_cfg=[dict(name="iter"), dict(name="*", step_metric="iter")],
    )
    return settings, f"W&B: project {tracking.wandb}, run {name}"


def _mlflow(cfg: Config, tracking: Tracking) -> tuple[dict, str]:
    asked, folder = tracking.mlflow or "", Path(cfg.work_dir).resolve()
    name = Path(cfg.work_dir).name
    is_uri = ":" in asked
    server = asked if is_uri else os.environ.get("MLFLOW_TRACKING_URI")
    uri = server or f"sqlite:///{folder}/mlflow.db"
    settings = dict(
        type="milan_mm.MLflowVisBackend",
        save_dir=str(folder),
        tracking_uri=uri,
        exp_name=Path(cfg.filename or "milan_mm").stem if is_uri else asked,
        run_name=name,
        artifact_location=None if server else f"file://{folder}/mlflow",
        tracked_config_keys=[key for key in _MLFLOW_KEYS if key in cfg],
    )
    show = "" if server else f": mlflow ui --backend-store-uri {uri}"
    return settings, f"MLflow: experiment {settings['exp_name']}, run {name}, at {uri}{show}"


def _check_task(cfg: Config, tracking: Tracking) -> None:
    """Refuse what makes no sense, and look for the labelled images."""
    asked = dict(
        pictures_interval="the masks of a pretraining are drawn",
        knn_data="the encoder of a pretraining is measured; other tasks have a validation",
    )
    for name, reason in asked.items():
        if getattr(tracking, name) and not _is_pretraining(cfg):
            raise UserError(
                f"--{name.replace('_', '-')} {getattr(tracking, name)}: {reason}, and "
                f"{cfg.filename or 'this config'} trains {cfg.model.type}: leave it out"
            )
    if not tracking.knn_data:
        for name in ("knn_interval", "knn_limit"):
            if value := getattr(tracking, name):
                option = f"--{name.replace('_', '-')} {value}"
                raise UserError(f"{option} applies to --knn-data DIR, which is missing")
        return
    if is_iter_based(cfg):
        raise UserError(
            "--knn-data measures after epochs, and this run counts iterations: use a loop of "
            "epochs (train_cfg.max_epochs)"
        )
    folders = [
        find_class_folders(tracking.knn_data, split, "--knn-data") for split in ("train", "val")
    ]
    train, val = map(class_names, folders)
    if unknown := [name for name in val if name not in set(train)]:
        raise UserError(
            f"--knn-data: {len(unknown)} classes of {folders[1]} are not in {folders[0]}: "
            f"{shorten_list(unknown, 3)}: no neighbour could vote for them"
        )


def _is_pretraining(cfg: Config) -> bool:
    return "mask_generator" in (cfg.get("model") or {})


def _backends(cfg: Config) -> Any:
    """The list of a config's backends, in place; the work directory's own is always in it."""
    if not cfg.get("visualizer"):
        cfg.visualizer = ConfigDict(type="mmengine.Visualizer")
    visualizer = cfg.visualizer  # read again, since a config copies what it is given
    found = visualizer.get("vis_backends") or []
    found = [found] if isinstance(found, (dict, str)) else [*found]
    if wrong := [backend for backend in found if isinstance(backend, str)]:
        raise UserError(
            f"visualizer.vis_backends has {wrong[0]!r}, and must hold dicts, which --cfg-options "
            "cannot write: use --tensorboard, --wandb or --mlflow, or a config of your own"
        )
    if not any(_kind(backend) == "LocalVisBackend" for backend in found):
        found.insert(0, ConfigDict(type="LocalVisBackend"))
    visualizer.vis_backends = found
    return visualizer.vis_backends


def _kind(backend: Any) -> str:
    kind = backend.get("type", "") if isinstance(backend, dict) else type(backend)
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]


def _add_hook(cfg: Config, **settings: Any) -> None:
    hooks = [h for h in cfg.get("custom_hooks") or [] if h.get("type") != settings["type"]]
    given = {name: value for name, value in settings.items() if value is not None}
    cfg.custom_hooks = [*hooks, ConfigDict(given)]


def _is_installed(package: str) -> bool:
    """Whether it can be imported; a folder of its name, which W&B makes, is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
