"""`benchmark.py scale`: what a run costs, and several processes that share its batch."""

import argparse
import copy
import dataclasses
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing import ProcessRaisedException

from benchmarks import scale
from milan_mm.configs import load
from tests.helpers import narrow_teacher


def test_zero_rounds_are_refused():
    with pytest.raises(ValueError, match="--rounds 0: must be 1 or more"):
        scale.run(argparse.Namespace(rounds=0, precision="float32"))


def test_flops_of_a_run_grow_with_batch_image_and_model():
    first = scale.FIRST.flops()
    assert scale.Run(batch_size=16).flops() == 2 * first
    assert scale.Run(arch="small").flops() < first
    patches = (288 / 16) ** 2 / (224 / 16) ** 2
    assert patches * first < scale.Run(img_size=288).flops() < patches**2 * first


@pytest.mark.long
def test_two_processes_share_the_batch_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = load(scale.OURS)
    config.model.decoder.num_layers = 2
    teacher = config.model.head.teacher
    teacher.model_name = narrow_teacher(teacher.model_name, tmp_path)
    monkeypatch.setattr(scale, "load", lambda _: copy.deepcopy(config))
    monkeypatch.setattr(scale, "default_threads", lambda: 1)
    spawn = partial(torch.multiprocessing.start_processes, start_method="fork")  # in no time
    monkeypatch.setattr(torch.multiprocessing, "spawn", spawn)
    both = scale.Run(batch_size=4, img_size=32, arch="tiny", processes=2)
    half = scale.Run(batch_size=2, img_size=32, arch="tiny")
    kept_by_each, kept = (scale.measure(run, "float32", rounds=1)[1] for run in (both, half))
    assert kept_by_each == kept


def test_kept_memory_is_what_the_backward_pass_needs():
    layers = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid(), nn.Linear(20, 1))
    x = torch.randn(4, 10)
    kept = scale.kept_bytes(lambda: layers(x).sum().backward(), layers)
    assert kept == 4 * (4 * 10 + 4 * 20)  # the input of the first layer, and that of the second


def test_a_process_that_fails_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, nprocs: int) -> None:
        raise ProcessRaisedException("KeyError: 'unknown'", error_index=1, error_pid=2)

    monkeypatch.setattr(torch.multiprocessing, "spawn", fail)
    run = dataclasses.replace(scale.FIRST, processes=2)
    with pytest.raises(RuntimeError, match=r"on 2 processes failed: (.|\n)*'unknown'"):
        scale.measure(run, "float32", rounds=1)
