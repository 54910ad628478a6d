"""The pretraining contest on tiny models: the two agree, disagreement is noticed, time is split."""

import argparse
import json

import open_clip
import pytest
import torch

from milan_mm.benchmark import pretrain
from milan_mm.benchmark import pretrain_steps as steps
from milan_mm.benchmark.pretrain import TOLERANCE, check_agreement
from milan_mm.benchmark.sections import PARTS, print_sections

ARCH = dict(embed_dims=48, num_layers=2, num_heads=4)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict:
    """Of the contestants: narrow encoder and teacher; grid and decoder are the recipe's."""
    folder = tmp_path_factory.mktemp("contest")
    name = "contest-quickgelu"  # mmpretrain takes heads of 64 for granted
    config = dict(
        embed_dim=24,
        quick_gelu=True,
        vision_cfg=dict(image_size=224, patch_size=16, layers=2, width=128, head_width=64),
        text_cfg=dict(context_length=8, vocab_size=10, width=64, heads=1, layers=1),
    )
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    steps.write_weights(folder, ARCH, name)
    return dict(folder=str(folder), arch=ARCH, teacher=name, batch_size=2)


# minutes where the CPU does not multiply in bfloat16
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_losses_of_both_agree_step_by_step(settings, precision):
    ours = steps.prepare_ours(**settings, precision=precision)
    theirs = steps.prepare_mmpretrain(**settings, precision=precision)
    trajectories = [step() for _ in range(4) for step in (ours, theirs)]
    check_agreement(trajectories[::2], trajectories[1::2], TOLERANCE[precision])
    assert trajectories[-1] < trajectories[0]


def test_another_mask_is_a_disagreement(settings, monkeypatch):
    ours = steps.prepare_ours(**settings, precision="float32")
    theirs = steps.prepare_mmpretrain(**settings, precision="float32")
    monkeypatch.setattr(steps, "same_masks", lambda step: torch.random.fork_rng())
    losses = [[step() for _ in range(3)] for step in (ours, theirs)]
    with pytest.raises(RuntimeError, match=r"the losses differ by .* allowed are 1e-04: ours "):
        check_agreement(*losses, TOLERANCE["float32"])


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
    values = dict(batch_size=2, rounds=1, arch="base", compile=False, profile=False)
    return argparse.Namespace(**(values | changes))


def test_a_loss_that_is_no_number_is_a_disagreement():
    with pytest.raises(RuntimeError, match="the losses differ by nan"):
        check_agreement([1.0, float("nan")], [1.0, 1.0], tolerance=1e-2)


def test_profile_accounts_for_the_whole_step(settings, capsys):
    print_sections(**settings, precision="float32", rounds=2)
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:14].strip(): line[14:].replace("ms", "").split() for line in lines[2:]}
    assert list(rows) == [*PARTS, "optimizer", "rest", "whole step"]
    assert sum(float(row[-1].rstrip("%")) for row in list(rows.values())[:-1]) == pytest.approx(
        100, abs=1
    )
    learning = ("embedding", "encoder", "decoder", "loss")
    assert all(float(rows[part][1]) >= 0 for part in learning)
    assert float(rows["teacher"][1]) == 0
