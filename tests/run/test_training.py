"""A checkpoint is tested with the model and the classes that it was trained with."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from milan_mm.run.prepare import prepare, use_machine
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.fitting import check_fit
from milan_mm.run.training import _check_classes, _saying_how_to_go_on
from milan_mm.run.training import test as evaluate
from tests.engine.hooks.test_saving import Predicting, Rising
from tests.helpers import forget_runs
from tests.run.tiny_runs import run_tiny, tiny_config


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": (2,)}, "is missing 1 of the model's 2 tensors, first 'b'"),
        ({"a": (2,), "b": (3,), "c": (1,)}, "holds unknown 1 .* first 'c'"),
        ({"a": (2,), "b": (4,)}, "has other shapes of 1 .* first 'b'"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(found: dict, message: str):
    wanted = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(ValueError, match=message):
        check_fit("x.pth", {name: torch.zeros(shape) for name, shape in found.items()}, wanted)


@pytest.mark.parametrize(
    ("tested", "message"),
    [
        (["cat", "ant"], r"3 classes and the test data have 2, .* label 0 on, 'ant'"),
        (["ant", "bee"], r"2 on, 'cow' against 'None': test on the data"),
    ],
)
def test_a_checkpoint_of_other_classes_is_refused(tested: list[str], message: str):
    meta = dict(dataset_meta=dict(classes=("ant", "bee", "cow")))
    with pytest.raises(ValueError, match=message):
        _check_classes("x.pth", meta, dict(classes=tested))


def test_a_checkpoint_without_names_of_classes_is_accepted():
    _check_classes("x.pth", {}, dict(classes=["ant"]))
    _check_classes("x.pth", dict(dataset_meta=dict(classes=["ant"])), {})
    _check_classes("x.pth", dict(dataset_meta=dict(classes=("ant",))), dict(classes=["ant"]))


@pytest.mark.parametrize("saved", [False, True])
def test_an_interrupted_run_with_a_checkpoint_says_how_to_go_on(tmp_path: Path, capsys, saved):
    runner = SimpleNamespace(work_dir=str(tmp_path))
    with pytest.raises(KeyboardInterrupt), _saying_how_to_go_on(runner):
        if saved:
            (tmp_path / "last_checkpoint").write_text("epoch_1.pth")
        raise KeyboardInterrupt
    assert ("--resume goes on from the last checkpoint" in capsys.readouterr().err) == saved


def test_a_test_in_the_folder_of_its_training_leaves_the_config_of_the_training(tmp_path: Path):
    loader = dict(
        num_workers=0, dataset=dict(type="TinyNumbers"), sampler=dict(type="DefaultSampler")
    )
    parts = dict(test_dataloader=loader, test_cfg={}, test_evaluator=dict(type=Rising.__name__))

    def config() -> Config:
        made = tiny_config("epochs", tmp_path, model=dict(type=Predicting.__name__), **parts)
        return Config(made.to_dict(), filename=__file__)

    run_tiny(config())
    trained = (tmp_path / "test_training.py").read_text()
    forget_runs()
    cfg = config()
    notes = prepare(cfg, RunOptions(), [use_machine])
    assert evaluate(cfg, str(tmp_path / "iter_16.pth"), notes)
    assert (tmp_path / "test_training.py").read_text() == trained
    (own,) = tmp_path.glob("*/test_training.py")
    assert own.read_text() != trained
