"""A training checkpoint tells what no tensor does, by the config in it, which is never executed."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from milan_mm.weights.hub import HubFacts
from milan_mm.weights.recognising import recognise
from milan_mm.weights.training_config import training_facts
from tests.helpers import TINY_ARCH, tiny_vit

RGB = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323], to_rgb=True)


def checkpoint(preprocessor: dict | None = None, top: bool = False, **backbone) -> dict:
    """As mmengine saves a finetuned CLIP."""
    options = dict(arch=TINY_ARCH, img_size=32, patch_size=8) | backbone
    model = dict(backbone=dict(type="milan_mm.PlainViT", **options))
    cfg = dict(model=model)
    (cfg if top else model)["data_preprocessor"] = preprocessor or RGB
    state = {f"backbone.{n}": t for n, t in tiny_vit(**backbone).state_dict().items()}
    return dict(state_dict=state, meta=dict(cfg=Config(cfg).pretty_text))


CLIP = dict(norm_eps=1e-5, act="QuickGELU", patch_bias=False, pre_norm=True)


@pytest.mark.parametrize("top", [False, True])
def test_activation_epsilon_heads_and_statistics_are_told(top: bool):
    encoder = recognise(checkpoint(top=top, **CLIP), "epoch_1.pth")
    assert {name: encoder.settings[name] for name in CLIP} == CLIP
    assert encoder.settings["arch"] == TINY_ARCH and encoder.stats == "clip"
    assert set(encoder.assumed) == {"pooling"}


def test_a_usual_architecture_is_known_by_its_name():
    content = checkpoint()
    content["meta"]["cfg"] = "model = dict(backbone=dict(type='milan_mm.PlainViT', arch='large'))"
    assert training_facts(content).num_heads == 16


def test_rotary_positions_are_told():
    rotary = dict(rope_base=50.0, num_registers=2, with_pos_embed=False)
    assert recognise(checkpoint(**rotary), "epoch_1.pth").settings["rope_base"] == 50


def test_statistics_of_bgr_images_are_turned():
    bgr = dict(mean=RGB["mean"][::-1], std=RGB["std"][::-1])
    assert recognise(checkpoint(bgr), "epoch_1.pth").stats == "clip"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model = (",
        "model = dict(backbone=dict(type='ResNet', act='QuickGELU'))",
        "model = [1]",
        "model = dict(backbone='milan_mm.PlainViT')",
        "model = " + "-" * 100_000 + "1",
        "model = " + "[" * 5_000,
        None,
        7,
    ],
)
def test_other_configs_tell_nothing(text: object):
    assert training_facts(dict(meta=dict(cfg=text))) == HubFacts()


def test_a_config_is_never_executed(tmp_path: Path):
    marker = tmp_path / "marker"
    call = f"__import__('os').mkdir({json.dumps(str(marker))})"
    text = f"x = {call}\nmodel = dict(backbone=dict(type='milan_mm.PlainViT', act={call}))"
    assert training_facts(dict(meta=dict(cfg=text))).act is None
    assert not marker.exists()


def test_a_config_that_contradicts_what_is_given_is_refused():
    with pytest.raises(ValueError, match="says 4 and --num-heads says 6 attention heads"):
        recognise(checkpoint(), "epoch_1.pth", num_heads=6)


def test_a_checkpoint_without_a_config_is_read_with_assumptions():
    content = checkpoint(**CLIP)
    del content["meta"]
    encoder = recognise(content, "epoch_1.pth", num_heads=4)
    assert encoder.settings["act"] == "GELU"
    assert {"act", "norm_eps", "stats"} <= encoder.assumed.keys()
    assert torch.is_tensor(encoder.state_dict["pre_norm.weight"])
