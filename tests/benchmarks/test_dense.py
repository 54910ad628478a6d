"""Backbones at 1024 pixels: peers compute the same function, and mistakes are named."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from benchmarks import dense, dense_step
from milan_mm.benchmark import matrix_rate
from milan_mm.configs import load
from milan_mm.registry import MODELS
from tests.benchmark.in_process import InProcessContest
from tests.seg_helpers import narrow, shorten

TINY = dict(embed_dims=32, num_layers=3, num_heads=2, global_layers=(1,))
SETTINGS = dict(precision="float32", img_size=18 * 16, arch=TINY)  # 18 patches: 2 windows of 14


@pytest.fixture
def benchmark(repo_root: Path):
    """The command line of the tool."""
    return runpy.run_path(str(repo_root / "tools/benchmark.py"))["main"]


@pytest.mark.parametrize(
    ("ours", "peer", "rel_pos"),
    [("ours", "vit_sam", False), ("ours", "vit_sam", True), ("ours_global", "vit", False)],
)
def test_ours_and_the_peer_have_equal_outputs_and_gradients(ours: str, peer: str, rel_pos: bool):
    names = dict(ours=ours, peer=peer)
    results = {
        key: dense.prepare(name, rel_pos=rel_pos, **SETTINGS)() for key, name in names.items()
    }
    assert len(results["ours"]) == (5 if rel_pos else 3)
    for name, found in results["ours"].items():
        expected = results["peer"][name]
        assert np.abs(expected).max() > 0
        assert np.linalg.norm(found - expected.reshape(found.shape)) < 1e-4 * np.linalg.norm(found)


def test_windows_and_relative_positions_change_the_output():
    variants = [("ours", False), ("ours", True), ("ours_global", False)]
    outs = [dense.prepare(name, rel_pos, **SETTINGS)()["output"] for name, rel_pos in variants]
    for other in outs[1:]:
        assert np.linalg.norm(outs[0] - other) > 0.01 * np.linalg.norm(other)


@pytest.mark.parametrize(("precision", "error"), [("float32", 0.01), ("bfloat16", 0.1)])
def test_results_that_differ_are_not_compared(precision: str, error: float):
    rng = np.random.default_rng(0)
    peer = dict(output=rng.normal(size=1000), weight=rng.normal(size=1000))
    ours = peer | dict(weight=peer["weight"] * (1 + error))
    with pytest.raises(RuntimeError, match="'weight' of ours and of the peer differ by"):
        dense.check_agreement(dict(ours=ours, peer=peer), precision)
    assert "agree" in dense.check_agreement(dict(ours=peer, peer=peer), precision)


def test_results_that_are_not_finite_are_not_compared():
    peer = dict(output=np.ones(3))
    with pytest.raises(RuntimeError, match="not compared"):
        dense.check_agreement(dict(ours=dict(output=peer["output"] * np.nan), peer=peer), "float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds 0: give 1 or more"),
        (["--img-size", "1000"], "--img-size 1000 is not a multiple of 16 pixels"),
        (["--batch", "2"], "--batch is for whole steps: add --step det or --step seg"),
        (["--threads", "0"], "--threads 0: give 1 or more"),
        (["--step", "det", "--img-size", "512"], "--img-size is for backbones, not for --step"),
        (["--step", "det", "--batch", "0"], "--batch 0: give 1 or more images"),
    ],
)
def test_a_mistake_is_answered_with_one_line(
    arguments: list[str], message: str, benchmark, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as stop:
        benchmark(["dense", *arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_comparison_ends_with_a_json_line_for_time_memory_and_share(
    benchmark, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dense, "BASE", TINY)
    monkeypatch.setattr(dense, "Contest", InProcessContest)
    monkeypatch.setattr(matrix_rate, "_PRODUCTS", dict(cpu=(64, 1), cuda=(64, 1)))
    benchmark(["dense", "--cases", "windows-rel", "--img-size", "288", "--rounds", "1"])
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [row["metric"] for row in rows] == ["time", "memory", "share of the matrix rate"]
    assert all(row["bench"] == "dense" and "288 px" in row["case"] for row in rows)
    assert "agree" in err


# Whole steps


def small_step(task: str) -> tuple[Config, nn.Module]:
    """A recipe with a narrow backbone and small images, and its model."""
    if task == "seg":
        cfg = shorten(narrow(dense_step.RECIPES[task]))
        cfg.crop_size = (64, 64)
    else:
        cfg = load(dense_step.RECIPES[task])
        cfg.img_size = (64, 64)
        cfg.model.data_preprocessor.pad_size_divisor = 64
        cfg.model.backbone.update(
            arch=dict(embed_dims=32, num_layers=2, num_heads=2), global_layers=(1,), rel_pos_grid=4
        )
        cfg.model.neck.in_channels = 32
        cfg.model.train_cfg.rcnn.sampler.num = 16
    init_default_scope(cfg.default_scope)
    return cfg, MODELS.build(cfg.model)


@pytest.mark.parametrize("task", ["det", "seg"])
def test_every_part_of_a_step_is_timed_and_the_weights_move(task: str):
    cfg, model = small_step(task)
    optimizer = build_optim_wrapper(model, dict(optimizer=dict(type="SGD", lr=0.1)))
    before = model.backbone.layers[0].attn.qkv.weight.detach().clone()
    losses = dense_step.LOSSES[task]
    data = dense_step.make_data(task, 2, cfg)
    seconds = dense_step.time_step(model.train(), optimizer, data, losses, rounds=1)
    backward = {f"{part}, backward" for part in ("heads", "neck", "backbone")}
    expected = {"preprocessing", "backbone", "neck", *losses, *backward, "optimizer"}
    assert seconds.keys() == expected | {"other parts of the forward pass"}
    assert all(value > 0 for value in seconds.values())
    assert not torch.equal(before, model.backbone.layers[0].attn.qkv.weight)
    table = dense_step.table(seconds)
    assert len(table.splitlines()) == len(seconds) + 1
