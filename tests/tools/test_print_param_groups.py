"""The printed table of parameter groups."""

from collections.abc import Callable
from pathlib import Path

import pytest

from milan_mm.configs import find_config, list_configs, load
from milan_mm.run.building import build_without_memory
from milan_mm.run.silence import silence

MINI = "milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes"


@pytest.fixture
def printed(call: Callable[..., None], capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Runs the tool and returns what it prints, which nothing else may print into."""

    def run(*arguments: str) -> str:
        call("print_param_groups", *arguments)
        return capsys.readouterr().out

    return run


def _rows(text: str) -> dict[str, list[str]]:
    """Shape, factor and decay by name."""
    header, *lines = text.split("\n\n")[0].splitlines()
    assert header.split() == ["name", "shape", "lr", "factor", "decay"]
    return {line.split()[0]: line.split()[1:] for line in lines}


@pytest.mark.parametrize("recipe", list_configs())
def test_every_recipe_is_printed_with_all_its_trainable_parameters(recipe: str, printed: Callable):
    with silence():
        model = build_without_memory(load(recipe))
    assert list(_rows(printed(recipe))) == [
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    ]


def test_frozen_parameters_are_listed_on_demand(printed: Callable):
    frozen = _rows(printed(MINI, "--all")).keys() - _rows(printed(MINI)).keys()
    assert frozen == {"backbone.pos_embed", "decoder.decoder_pos_embed"}


def test_options_of_the_command_line_reach_the_rules(printed: Callable):
    option = "optim_wrapper.paramwise_cfg.no_decay_names=cls_token,mask_token"
    before, after = _rows(printed(MINI)), _rows(printed(MINI, "--cfg-options", option))
    assert {name for name in before if before[name] != after[name]} == {
        "backbone.cls_token",
        "decoder.mask_token",
    }


def test_no_weights_of_a_teacher_are_looked_for(printed: Callable):
    option = "model.head.teacher.pretrained=gone.safetensors"
    assert printed(MINI, "--cfg-options", option) == printed(MINI)


def test_rules_of_another_constructor_are_shown_too(printed: Callable, tmp_path: Path):
    (tmp_path / "own.py").write_text(
        f"""_base_ = [{find_config(MINI).as_posix()!r}]
optim_wrapper = dict(
    type="AmpOptimWrapper",
    constructor="DefaultOptimWrapperConstructor",
    paramwise_cfg=dict(
        _delete_=True, bias_decay_mult=0.0, custom_keys=dict(decoder=dict(lr_mult=0.5))
    ),
)
"""
    )
    rows = _rows(printed(str(tmp_path / "own.py")))
    assert rows["decoder.decoder_pred.weight"] == ["128x128", "0.5", "yes"]
    assert rows["backbone.layers.0.attn.qkv.weight"] == ["576x192", "1", "yes"]
    assert rows["backbone.layers.0.attn.qkv.bias"] == ["576", "1", "no"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["milan_vit-bse"], "config 'milan_vit-bse' is neither a file nor a recipe"),
        (
            [MINI, "--cfg-options", "optim_wrapper.paramwise_cfg.no_decay_names=tokn"],
            "paramwise_cfg.no_decay_names lists ['tokn']",
        ),
    ],
)
def test_a_mistake_is_answered_with_one_line(
    arguments: list[str], message: str, printed: Callable, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as stop:
        printed(*arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err.splitlines()[-1]
