"""The shipped tiny CLIP loads into open_clip's own model and knows the shapes scenes."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open

import milan_mm
from milan_mm.shapes.captions import SHAPES, VOCABULARY, encode_caption
from milan_mm.shapes.scenes import render_scene

ASSETS = Path(milan_mm.__file__).parent / "assets"
WEIGHTS = ASSETS / "shapes_clip.safetensors"


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    open_clip.add_model_config(ASSETS / "shapes-clip.json")
    return open_clip.create_model("shapes-clip", pretrained=str(WEIGHTS)).eval()


def _pixels(scenes: list) -> torch.Tensor:
    """(B, 3, H, W) float32 with the image statistics that the file states."""
    with safe_open(WEIGHTS, "pt") as file:
        stated = file.metadata()
    mean, std = (torch.tensor(json.loads(stated[f"image_{key}"])) for key in ("mean", "std"))
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])) / 255
    return ((images - mean) / std).permute(0, 3, 1, 2)


def test_weights_match_the_model_key_by_key(clip: open_clip.CLIP) -> None:
    with safe_open(WEIGHTS, "pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    assert shapes == {key: tuple(value.shape) for key, value in clip.state_dict().items()}


def test_weights_stay_within_8_megabytes() -> None:
    assert WEIGHTS.stat().st_size <= 8_000_000


def test_text_tower_has_one_embedding_per_word(clip: open_clip.CLIP) -> None:
    assert clip.token_embedding.num_embeddings == len(VOCABULARY)


def test_single_objects_are_named_far_above_chance(clip: open_clip.CLIP) -> None:
    scenes = [render_scene(10**9 + seed, num_objects=(1, 1)) for seed in range(120)]
    prompts = torch.from_numpy(np.stack([encode_caption(f"a large {name}") for name in SHAPES]))
    with torch.inference_mode():
        texts = clip.encode_text(prompts, normalize=True)
        named = (clip.encode_image(_pixels(scenes), normalize=True) @ texts.T).argmax(1)
    truth = torch.tensor([SHAPES.index(scene.largest.shape) for scene in scenes])
    assert (named == truth).float().mean() > 0.3  # chance is 1/6


def test_class_attention_favours_objects(clip: open_clip.CLIP) -> None:
    scenes = [render_scene(10**9 + seed) for seed in range(40)]
    seen: list[torch.Tensor] = []
    last = clip.visual.transformer.resblocks[-1]
    handle = last.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("q_x", *args[:1])), with_kwargs=True
    )
    with torch.inference_mode():
        clip.encode_image(_pixels(scenes))
        normed = last.ln_1(seen[0])
        attention = last.attn(normed[:, :1], normed, normed)[1][:, 0, 1:]  # (B, L)
    handle.remove()
    covered = torch.from_numpy(np.stack([scene.labels for scene in scenes]) > 3).float()
    area = torch.nn.functional.avg_pool2d(covered[:, None], 8).flatten(1)  # (B, L)
    on_objects = (attention * area).sum(1) / attention.sum(1)
    assert on_objects.mean() > 1.5 * area.mean()
