"""A run that is killed between a checkpoint and the result of its validation."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, MODELS

from milan_mm.engine.validations import LAST_VALIDATION
from milan_mm.run.start.origin import Start
from tests.run.tiny_runs import Weights, run_tiny, tiny_config

SCORES = (0.3, 0.2, 0.9, 0.8)  # of the weights after 4, 8, 12 and 16 updates; too few rise


class Killed(Exception):
    """Stands for SIGKILL: nothing is saved any more."""


@HOOKS.register_module(name="KillHook", force=True)
class KillHook(Hook):
    """Ends a run after a call of a method, behind the hooks that save."""

    priority = "LOWEST"
    at: ClassVar[tuple[str, int]] = ("", 0)  # method, and updates until then

    def __init__(self) -> None:
        for name in (
            "after_train_iter",
            "after_train_epoch",
            "before_val_epoch",
            "after_val_epoch",
        ):
            setattr(self, name, lambda runner, *_, name=name, **__: self._called(runner, name))

    def _called(self, runner: Any, name: str) -> None:
        if (name, runner.iter + (name == "after_train_iter")) == self.at:
            raise Killed


@MODELS.register_module(name="TinyScoredModel", force=True)
class Scored(Weights):
    """Counts its updates in a buffer, and predicts the score of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("updates", torch.tensor(0))

    def forward(self, x: list, mode: str) -> Any:
        if mode == "loss":
            self.updates += 1
            return super().forward(x, mode)
        return [dict(score=SCORES[int(self.updates) // 4 - 1]) for _ in x]


@METRICS.register_module(name="ScoreMetric", force=True)
class Score(BaseMetric):
    """The score that the model predicts."""

    made: ClassVar[list[float]] = []

    def process(self, _: object, samples: Any) -> None:
        self.results += [sample["score"] for sample in samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        Score.made.append(results[0])
        return dict(score=results[0])


def run(folder: Path, kind: str, at: tuple[str, int] = ("", 0), resume: bool = False) -> list:
    """Train, and return the scores of the validations that were made."""
    KillHook.at, Score.made = at, []
    epochs = kind.startswith("epochs")
    loop = (
        dict(type="EpochBasedTrainLoop", max_epochs=4, val_interval=1)
        if epochs
        else dict(type="IterBasedTrainLoop", max_iters=16, val_interval=4)
    )
    interval = INTERVALS[kind]
    follows = dict(
        type="ReduceOnPlateauLR", monitor="score", rule="greater", patience=0, factor=0.5
    )
    cfg = tiny_config(
        "epochs" if epochs else "iterations",
        folder,
        model=dict(type="TinyScoredModel"),
        param_scheduler=[follows],
        val_dataloader=dict(
            batch_size=5,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(type="TinyNumbers", images=5),
        ),
        val_cfg={},
        val_evaluator=dict(type="ScoreMetric"),
        train_cfg=loop,
        custom_hooks=[dict(type="WatchHook"), dict(type="KillHook")],
        **{"default_hooks.checkpoint": dict(save_best="score", rule="greater", **interval)},
    )
    cfg.param_scheduler = [follows]
    try:
        run_tiny(cfg, Start(resume="auto") if resume else None)
    except Killed:
        assert at[0]
    else:
        assert not at[0]
    return Score.made


def end_of(folder: Path) -> dict[str, Any]:
    """What a run came to: its files, and what the newest one holds."""
    newest = folder / (folder / "last_checkpoint").read_text()
    content = torch.load(newest, weights_only=False)
    info = content["message_hub"]["runtime_info"]
    return dict(
        files=sorted(path.name for path in folder.glob("*.pth")),
        best=(info["best_score"], Path(info["best_ckpt"]).name),
        schedules=content["param_schedulers"],
        weights=content["state_dict"]["body"].tolist(),
    )


INTERVALS = {
    "epochs": dict(by_epoch=True, interval=1),
    "epochs, saved by iterations": dict(interval=2),
    "iterations": dict(interval=2),
    "iterations, rarely both": dict(interval=3),
}


@pytest.mark.parametrize("kind", INTERVALS)
def test_a_killed_run_ends_with_the_best_checkpoint_and_schedules_of_the_undisturbed_one(
    tmp_path: Path, kind: str
):
    made = run(tmp_path / "whole", kind)
    assert made == [*SCORES]
    expected = end_of(tmp_path / "whole")
    assert expected["best"][0] == 0.9 and expected["schedules"][0]["num_bad_epochs"] is not None
    saves = "after_train_epoch" if kind == "epochs" else "after_train_iter"
    # before a validation, before the last, and after a result that was saved and one that was not
    ends = [(saves, 12), (saves, 16), ("after_val_epoch", 8), ("after_val_epoch", 12)]
    for place in ends:
        folder = tmp_path / "-".join(map(str, place))
        before = run(folder, kind, place)
        after = run(folder, kind, resume=True)
        assert end_of(folder) == expected, place
        # a result that is not better is not saved, so that validation is made again
        again = [0.2] if place == ("after_val_epoch", 8) else []
        assert sorted([*before, *after]) == sorted([*SCORES, *again]), place


@pytest.mark.parametrize("is_due", [True, False])
def test_of_an_earlier_version_only_what_it_noted_is_made_up_for(tmp_path: Path, is_due: bool):
    run(tmp_path, "iterations", ("before_val_epoch", 12))
    file = tmp_path / "iter_12.pth"
    content = torch.load(file, weights_only=False)
    hub = content["message_hub"]
    del hub["runtime_info"][LAST_VALIDATION], hub["resumed_keys"][LAST_VALIDATION]
    hub["runtime_info"]["validation_is_due"] = is_due
    hub["resumed_keys"]["validation_is_due"] = True
    torch.save(content, file)
    assert run(tmp_path, "iterations", resume=True) == ([*SCORES[2:]] if is_due else [SCORES[3]])
