"""Patches and positions that do not belong together are noticed where anything tells their size."""

import re
from pathlib import Path

import pytest
import torch

from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.recognising import read_encoder, recognise
from tests.helpers import save_state
from tests.weights import zoo
from tests.weights.test_hub import CONFIG, timm_folder, write


def with_patches(sample: zoo.Sample, pixels: int) -> dict:
    """The content of its file, with patches of another size."""
    content, state = sample.content, zoo.state_of(sample)
    name = next(n for n in state if n.endswith(("patch_embed.proj.weight", "conv1.weight")))
    width = state[name].shape[0]
    state = state | {name: torch.randn(width, 3, pixels, pixels, dtype=state[name].dtype)}
    wrapped = [key for key, value in content.items() if value is zoo.state_of(sample)]
    return content | {wrapped[0]: state} if wrapped else state


@pytest.mark.parametrize("system", ["mae", "moco_v3", "dino_full", "ibot", "beit", "cae", "slip"])
@pytest.mark.parametrize("pixels", [8, 15])
@pytest.mark.usefixtures("published_size")
def test_patches_that_a_system_never_published_are_refused_with_both_names(
    system: str, pixels: int
):
    content = with_patches(zoo.SYSTEMS[system](Path()), pixels)
    message = (
        rf"patch_embed\.proj\.weight' has patches of {pixels} pixels and '.*(embed|bias_table)' "
        rf"a grid of 14x14, together images of {14 * pixels} pixels, but .* 224 pixels only"
    )
    with pytest.raises(ValueError, match=message):
        recognise(content, "a.pth", num_heads=zoo.HEADS if system == "mae" else None)


@pytest.mark.usefixtures("published_size")
def test_a_position_table_for_another_grid_is_refused():
    sample = zoo.SYSTEMS["mae"](Path())
    state = zoo.state_of(sample) | dict(pos_embed=torch.randn(1, 1 + 12**2, zoo.D))
    with pytest.raises(ValueError, match=r"'pos_embed' a grid of 12x12, together images of 192"):
        recognise(dict(model=state), "a.pth", num_heads=zoo.HEADS)


@pytest.mark.usefixtures("published_size")
def test_patches_and_grid_that_make_the_published_size_are_accepted():
    zoo.set_size(**ARCHS["tiny"], patch=8, side=28)  # as DINO's ViT-S/8
    encoder = recognise(zoo.SYSTEMS["dino_full"](Path()).content, "a.pth")
    assert (encoder.settings["patch_size"], encoder.settings["img_size"]) == (8, 224)


@pytest.mark.usefixtures("published_size")
def test_a_system_that_the_user_names_may_have_any_size(tmp_path: Path):
    content = with_patches(zoo.SYSTEMS["mae"](Path()), 8)
    file = save_state(content, tmp_path)
    with pytest.raises(ValueError, match=re.escape("--system 'MAE'")):
        read_encoder(file, num_heads=zoo.HEADS)
    encoder = read_encoder(file, system="MAE", num_heads=zoo.HEADS)
    assert encoder.settings["img_size"] == 14 * 8
    # said once: the file that is written from it needs no further word
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    assert read_encoder(tmp_path / "encoder.safetensors").settings == encoder.settings


@pytest.mark.usefixtures("published_size")
def test_a_system_that_timms_config_names_may_have_any_size(tmp_path: Path):
    zoo.set_size(**ARCHS["tiny"], patch=16, side=24)
    encoder = timm_folder(tmp_path, architecture="vit_tiny_patch16_384.dino_finetuned")
    assert (encoder.system, encoder.settings["img_size"]) == ("DINO", 384)


def test_an_architecture_that_nobody_published_may_have_any_size():
    content = with_patches(zoo.SYSTEMS["mae"](Path()), 15)
    assert recognise(content, "a.pth").settings["img_size"] == 60


@pytest.mark.parametrize("pixels", [7, 16])
def test_the_resolution_in_openais_own_files_is_checked(pixels: int):
    content = with_patches(zoo.SYSTEMS["openai_clip"](Path()), pixels)
    message = rf"images of {4 * pixels} pixels, but 'input_resolution' is 32: the file is damaged"
    with pytest.raises(ValueError, match=message):
        recognise(content, "a.pth", num_heads=zoo.HEADS)


@pytest.mark.parametrize("system", ["hf_vit", "hf_beit"])
def test_the_size_in_a_config_is_checked(tmp_path: Path, system: str):
    model_type = system.removeprefix("hf_")
    config = CONFIG | dict(model_type=model_type, image_size=40)
    message = "images of 32 pixels, but config.json says image_size=40"
    with pytest.raises(ValueError, match=message):
        read_encoder(write(tmp_path, system, config))


def test_a_size_in_a_config_that_patches_do_not_divide_counts_whole_patches(tmp_path: Path):
    folder = write(tmp_path, "hf_vit", CONFIG | dict(image_size=35))  # 4 patches of 8, 3 left over
    assert read_encoder(folder).settings["img_size"] == 32


def test_a_config_with_two_sides_tells_nothing(tmp_path: Path):
    folder = write(tmp_path, "hf_vit", CONFIG | dict(image_size=[40, 40]))
    assert read_encoder(folder).settings["img_size"] == 32
