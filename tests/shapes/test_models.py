"""The shipped tiny towers: the SLIP has its authors' layout and looks where the objects are."""

import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open

from milan_mm.pretrain.clip_training import normalise, save_clip
from milan_mm.pretrain.teacher_clip import SHIPPED as SHIPPED_CLIP
from milan_mm.pretrain.teacher_timm import SHIPPED as SHIPPED_SLIP
from milan_mm.shapes.captions import VOCABULARY, encode_caption
from milan_mm.shapes.models import (
    CLIP,
    SLIP,
    create,
    encode_texts,
    fill,
    load,
    load_teacher,
    shipped_clip_in_timm,
)
from milan_mm.shapes.scenes import SHAPES, SIZES, render_scene
from milan_mm.weights.names import ASSETS
from tests.helpers import randomise

FILES = {CLIP: SHIPPED_CLIP[CLIP], SLIP: SHIPPED_SLIP["vit_shapes_patch8_96"]}
each_file = pytest.mark.parametrize("name", list(FILES))


@pytest.fixture(scope="module")
def scenes() -> list:
    return [render_scene(10**9 + seed) for seed in range(40)]


@pytest.fixture(scope="module")
def singles() -> list:
    return [render_scene(10**9 + seed, num_objects=(1, 1)) for seed in range(240)]


def pixels_of(scenes: list) -> torch.Tensor:
    return normalise(np.stack([scene.image for scene in scenes]))


@each_file
def test_a_file_is_small_and_states_how_it_was_measured(name):
    assert FILES[name].stat().st_size <= 4_000_000
    with safe_open(FILES[name], "pt") as file:
        stated = file.metadata()
    assert stated["model"] == name
    assert json.loads(stated["evaluation"])["attention_on_objects"] > 0.5


def test_open_clip_itself_loads_the_clip():
    open_clip.add_model_config(ASSETS / f"{CLIP}.json")
    clip = open_clip.create_model(CLIP, pretrained=str(FILES[CLIP]))
    expected = load(CLIP, FILES[CLIP]).state_dict()
    assert clip.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in clip.state_dict().items())


@each_file
def test_the_text_tower_has_one_embedding_per_word(name):
    assert load(name, FILES[name]).token_embedding.num_embeddings == len(VOCABULARY)


def test_the_slip_states_the_command_that_made_it():
    with safe_open(FILES[SLIP], "pt") as file:
        command = file.metadata()["command"]
    assert command == "tools/train_shapes_clip.py --slip --scenes 6000 --seed 0 --threads 1"


def test_the_slip_has_the_names_of_its_authors_files():
    with safe_open(FILES[SLIP], "pt") as file:
        names = set(file.keys())
    tower = {n for n in names if n.startswith("visual.")}
    assert {"visual.patch_embed.proj.weight", "visual.blocks.4.attn.qkv.weight"} < tower
    assert not any("trunk" in n for n in names)
    assert {"image_projection", "text_projection", "token_embedding.weight"} < names - tower


@each_file
def test_single_objects_are_named_far_above_chance(name, singles):
    model = load(name, FILES[name])
    prompts = [f"a {size} {shape}" for shape in SHAPES for size in SIZES]
    with torch.inference_mode():
        texts = encode_texts(model, prompts).view(len(SHAPES), len(SIZES), -1).mean(1)
        named = (model.encode_image(pixels_of(singles), normalize=True) @ texts.T).argmax(1)
    truth = torch.tensor([SHAPES.index(scene.largest.shape) for scene in singles])
    assert (named == truth).float().mean() > 0.3  # chance is 1/6


@each_file
def test_the_importance_of_the_teacher_favours_objects(name, scenes):
    _, importance = load_teacher(name, FILES[name])(pixels_of(scenes))
    covered = torch.from_numpy(np.stack([scene.labels for scene in scenes]) > 3).float()
    area = torch.nn.functional.avg_pool2d(covered[:, None], 8).flatten(1)  # (B, L)
    on_objects = (importance * area).sum(1) / importance.sum(1)
    assert on_objects.mean() > 2 * area.mean()


@each_file
def test_the_class_token_of_the_teacher_is_the_image_feature_of_the_model(name, scenes):
    images = pixels_of(scenes[:4])
    with torch.no_grad():
        features, _ = load_teacher(name, FILES[name])(images)
        expected = load(name, FILES[name]).encode_image(images)
    torch.testing.assert_close(features[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_the_slip_starts_as_the_shipped_clip(scenes):
    images, captions = pixels_of(scenes[:4]), [scene.caption for scene in scenes[:4]]
    start, clip = fill(create(SLIP), shipped_clip_in_timm()).eval(), load(CLIP, FILES[CLIP])
    with torch.no_grad():
        torch.testing.assert_close(
            start.encode_image(images), clip.encode_image(images), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(encode_texts(start, captions), encode_texts(clip, captions))


@each_file
def test_texts_are_encoded_as_open_clip_does(name):
    model = load(name, FILES[name])
    captions = ["a large red star", "sand with a ring and a small blue cross"]
    tokens = torch.from_numpy(np.stack([encode_caption(text) for text in captions]))
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True)
        torch.testing.assert_close(encode_texts(model, captions), expected, rtol=1e-4, atol=1e-5)


@each_file
def test_what_is_saved_is_what_is_loaded(name, tmp_path):
    model = randomise(create(name)).eval()
    save_clip(model, name, tmp_path / "tiny.safetensors", "train.py", {"a": 0.12345})
    loaded = load(name, tmp_path / "tiny.safetensors").state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded[key], tensor.half().float()), key
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.safetensors"]


@each_file
def test_weights_of_a_small_image_fill_a_model_for_a_large_one(name):
    small, large = create(name, image_size=48), create(name)
    weights = {n: t.clone() for n, t in small.state_dict().items()}
    positions = {n: t.clone() for n, t in large.state_dict().items() if t.shape[-2:] == (145, 128)}
    fill(large, weights)
    assert len(positions) == 1
    for key, tensor in large.state_dict().items():
        assert torch.equal(tensor, positions.get(key, weights[key])), key
    assert not any(p.requires_grad for n, p in large.named_parameters() if n in positions)
