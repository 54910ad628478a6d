"""A checkpoint is tested with the model and the classes that it was trained with."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from milan_mm.run.start.fitting import check_fit
from milan_mm.run.training import _check_classes, _saying_how_to_go_on


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
