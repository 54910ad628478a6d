"""The report of a fault is read as carefully as any file of unknown origin."""

from pathlib import Path

import pytest
import torch
from torch import nn

from milan_mm.engine.finite.report import FaultReport, read_report
from milan_mm.engine.generators import generator_states
from milan_mm.errors import UserError

NONSENSE = (5, "x", [1], {"a": 1}, {1: "a"}, torch.ones(3), [[[]]], {"class of a structure": []})
FIELDS = ("batch", "generators", "state_dict", "progress", "images", "checkpoint")


def report(**fields: object) -> FaultReport:
    weights = nn.Linear(2, 2).state_dict()
    values: dict = dict(
        iteration=3,
        what="the loss is nan",
        batch=dict(inputs=torch.ones(1, 2)),
        generators=generator_states(),
        state_dict=weights,
        progress=dict(iter=2),
        images=["a.jpg"],
    )
    return FaultReport(**values | fields)


def test_a_report_brings_back_weights_batch_and_random_numbers(tmp_path: Path):
    written = report()
    written.write(tmp_path / "nonfinite_iter_3.pth")
    drawn = torch.rand(3)
    torch.rand(7)
    read = read_report(tmp_path / "nonfinite_iter_3.pth")
    assert torch.equal(torch.rand(3), drawn)
    model = nn.Linear(2, 2)
    read.prepare(model)
    assert torch.equal(model.weight, written.state_dict["weight"])
    assert torch.equal(read.batch["inputs"], written.batch["inputs"]) and read.images == ["a.jpg"]


@pytest.mark.parametrize("field", FIELDS)
def test_nonsense_in_a_report_is_refused_or_harmless(field: str, tmp_path: Path):
    path = tmp_path / "nonfinite_iter_3.pth"
    report().write(path)
    content = torch.load(path)
    for value in NONSENSE:
        torch.save(content | {field: value}, path)
        try:
            read_report(path).prepare(nn.Linear(2, 2))
        except UserError as error:
            assert str(error)


def test_a_damaged_report_is_refused(tmp_path: Path):
    path = tmp_path / "nonfinite_iter_3.pth"
    report().write(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"nonfinite_iter_3\.pth"):
        read_report(path)
