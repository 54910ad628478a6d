"""The pretraining contest on tiny models: the two agree, and a disagreement is noticed."""

import argparse
import json
from collections.abc import Callable

import pytest
import torch
from mmengine.config import Config

from milan_mm.benchmark import matrix_rate, pretrain
from milan_mm.benchmark import pretrain_steps as steps
from milan_mm.benchmark.pretrain import check_agreement
from tests.benchmark.in_process import InProcessContest

ARCH = dict(embed_dims=48, num_layers=2, num_heads=4)


@pytest.fixture
def tiny(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow encoder and teacher, a shallow decoder, small products, no processes."""
    monkeypatch.setattr(pretrain, "Contest", InProcessContest)
    monkeypatch.setattr(pretrain, "TEACHER", tiny_clip)
    monkeypatch.setattr(pretrain, "ARCHS", dict(base=ARCH))
    monkeypatch.setattr(steps, "load", shallow(steps.load, "decoder", "num_layers"))
    monkeypatch.setattr(steps, "get_config", shallow(steps.get_config, "neck", "decoder_depth"))
    monkeypatch.setattr(matrix_rate, "_PRODUCTS", dict(cpu=(64, 1), cuda=(64, 1)))


def shallow(read: Callable[[str], Config], decoder: str, depth: str) -> Callable[[str], Config]:
    """Recipes are read with a decoder of two blocks: this field of that part of the model."""

    def read_shallow(name: str) -> Config:
        config = read(name)
        config.model[decoder][depth] = 2
        return config

    return read_shallow


# minutes where the CPU does not multiply in bfloat16
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_equal_steps_are_compared_by_time_memory_and_share(tiny, precision, capsys):
    pretrain.run(arguments(precision=[precision]))
    agreement, *lines = capsys.readouterr().out.splitlines()
    assert agreement.startswith(f"{precision}: 3 losses agree, relative difference at most ")
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert [row["metric"] for row in rows] == ["time", "memory", "share of the matrix rate"]
    time, _, share = rows
    assert share["gain"] == pytest.approx(time["gain"], rel=0.05)  # both multiply as much


def test_another_mask_is_a_disagreement(tiny, monkeypatch):
    monkeypatch.setattr(steps, "seed_masks", lambda step: None)
    with pytest.raises(RuntimeError, match=r"the losses differ by .*, more than 1e-04: ours "):
        pretrain.run(arguments(precision=["float32"]))


def test_float16_is_refused_on_a_cpu_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(pretrain, "default_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(pretrain, "write_weights", lambda *_: pytest.fail("built"))
    with pytest.raises(ValueError, match="--precision float16 needs a GPU"):
        pretrain.run(arguments(precision=["float16"]))


def test_a_precision_that_is_named_twice_is_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr(pretrain, "write_weights", lambda *_: None)
    monkeypatch.setattr(
        pretrain, "_contest", lambda _, precisions, *__: measured.append(precisions)
    )
    monkeypatch.setattr(pretrain, "report", lambda _: None)
    pretrain.run(arguments(precision=["float32", "float32"]))
    assert measured == [["float32"]]


def arguments(**changes) -> argparse.Namespace:
    values = dict(batch_size=2, rounds=1, arch="base", compile=False)
    return argparse.Namespace(**(values | changes))


def test_a_loss_that_is_no_number_is_a_disagreement():
    with pytest.raises(RuntimeError, match="the losses differ by nan"):
        check_agreement([1.0, float("nan")], [1.0, 1.0], tolerance=1e-2)
