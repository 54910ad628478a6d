"""Stand-ins for wandb and mlflow, which are too large to install for tests.

They take the calls that mmengine's backends make, as the two document them, note them, and refuse
what the real ones refuse: unknown settings, changed parameters, pictures without a type.
"""

import os
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

_INIT = {"project", "name", "dir", "id", "resume", "config", "entity", "group", "tags", "mode"}
_NAMES = count(1)


class _StandIn(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None, origin="stand-in")


class Wandb(_StandIn):
    """The part of wandb that a backend uses; it has no `join` any more."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[Any] = []
        self.run: Any = None
        self.Image = lambda pixels: ("image", pixels.shape)
        self.config = SimpleNamespace(update=self._update)

    def init(self, **settings: Any) -> None:
        assert settings.keys() <= _INIT, settings
        assert Path(settings["dir"]).is_dir()
        name = os.environ.get("WANDB_RUN_ID") or f"run{next(_NAMES)}"
        goes_on = os.environ.get("WANDB_RESUME") == "allow"
        if not goes_on:
            assert name not in [run.id for run in self.runs], "would replace a run"
        self.run = SimpleNamespace(id=name, settings=settings, lines=[], config={}, metrics=[])
        if goes_on:
            self.run.config = next(run.config for run in self.runs if run.id == name)
        self.runs.append(self.run)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.run.metrics.append((name, step_metric))

    def log(self, values: dict, commit: bool = True) -> None:
        self.run.lines.append(values)

    def finish(self) -> None:
        self.run = None

    def _update(self, values: dict, allow_val_change: bool = False) -> None:
        changed = [k for k, v in self.run.config.items() if k in values and values[k] != v]
        assert allow_val_change or not changed, changed
        self.run.config.update(values)


class Mlflow(_StandIn):
    """The part of mlflow's fluent interface that a backend uses."""

    class MlflowException(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs: dict[str, Any] = {}
        self.uri, self.experiment, self.locations = "", "", {}
        self._active: Any = None

    def set_tracking_uri(self, uri: str) -> None:
        self.uri = uri

    def get_experiment_by_name(self, name: str) -> object:
        return self.locations.get(name)

    def create_experiment(self, name: str, artifact_location: str | None = None) -> None:
        self.locations[name] = artifact_location or "the server's"

    def set_experiment(self, name: str) -> None:
        assert name in self.locations
        self.experiment = name

    def active_run(self) -> Any:
        return self._active

    def _run(self) -> Any:
        if self._active is None:
            name = os.environ.pop("MLFLOW_RUN_ID", None)
            if name:
                self._active = self.runs[name]
                assert self._active.experiment == self.experiment
            else:
                name = f"run{next(_NAMES)}"
                info = SimpleNamespace(run_id=name)
                self._active = SimpleNamespace(
                    info=info, experiment=self.experiment, tags={}, params={}, metrics=[], files=[]
                )
                self.runs[name] = self._active
        return self._active

    def set_tag(self, name: str, value: str) -> None:
        self._run().tags[name] = value

    def log_params(self, params: dict) -> None:
        known = self._run().params
        if [k for k, v in params.items() if str(known.get(k, v)) != str(v)]:
            raise self.MlflowException("Changing param values is not allowed")
        if [k for k, v in params.items() if len(str(v)) > 6000]:
            raise self.MlflowException("too long")
        known.update(params)

    def log_text(self, text: str, file: str) -> None:
        self._run().files.append(file)

    def log_metric(self, name: str, value: float, step: int) -> None:
        self.log_metrics({name: value}, step)

    def log_metrics(self, values: dict, step: int) -> None:
        self._run().metrics += [(name, float(value), step) for name, value in values.items()]

    def log_image(self, image: np.ndarray, file: str) -> None:
        assert Path(file).suffix == ".png", f"unknown file extension: {file}"
        self._run().files.append(file)

    def log_artifact(self, path: str, folder: str | None = None) -> None:
        assert Path(path).is_file()
        self._run().files.append(Path(path).name)

    def end_run(self) -> None:
        self._active = None
