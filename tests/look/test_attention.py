"""Class attention is that of the systems' own classes, and figures show it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.look.attention import (
    AttentionSettings,
    _panel,
    attention_figure,
    class_attention,
    keep_mass,
    query_attention,
)
from milan_mm.look.concentration import concentration, patch_variance
from milan_mm.look.images import Photo
from milan_mm.look.systems import read_systems
from tests.helpers import save_state, tiny_vit
from tests.look.conftest import WORDING
from tests.weights import zoo

PHOTO = Photo(Path("photo.png"), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
OF_TIMM = {
    "absolute positions": zoo.timm_vit,
    "registers": lambda: zoo.timm_vit(reg_tokens=2),
    "relative position bias": lambda: zoo.timm_beit(use_shared_rel_pos_bias=True),
    "rotary positions": lambda: zoo.timm_dinov3(qkv_bias=True),
}


def softmax_of_timm(model: nn.Module, imgs: Tensor, layer: int) -> Tensor:
    """(B, A, N, N): what timm's own attention multiplies the values by."""
    found = []
    attn = model.blocks[layer].attn
    attn.fused_attn = False
    attn.attn_drop.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        model.forward_features(imgs)
    return found[0]


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("build", OF_TIMM.values(), ids=OF_TIMM)
def test_class_attention_is_the_first_row_of_timms_softmax(
    build: Callable[[], nn.Module], layer: int, tmp_path: Path
):
    model = build()
    file = save_state(model.state_dict(), tmp_path)
    (shown,) = read_systems([str(file)], num_heads=zoo.HEADS)
    imgs = torch.randn(2, 3, 32, 32)
    theirs = softmax_of_timm(model, imgs, layer)[:, :, 0, -16:]  # (B, A, L)
    ours = class_attention(shown.vit, imgs, layer)
    torch.testing.assert_close(ours.flatten(2), theirs, rtol=1e-4, atol=1e-6)


def test_the_strongest_patches_that_hold_the_share_are_kept():
    rng = np.random.default_rng(0)
    maps = rng.random((2, 3, 4, 5))
    kept = keep_mass(maps, 0.6)
    for values, left in zip(maps.reshape(6, 20), kept.reshape(6, 20), strict=True):
        ranked = sorted(values, reverse=True)
        number = next(n for n in range(1, 21) if sum(ranked[:n]) >= 0.6 * sum(ranked))
        assert sorted(left[~np.isnan(left)], reverse=True) == ranked[:number]


@pytest.mark.parametrize(("peak", "note"), [(1.0, "max 100 %"), (0.0412, "max 4.1 %")])
def test_the_largest_share_stands_below_a_map(peak: float, note: str):
    assert _panel(np.array([[0.0, peak]]), None).note == note


@pytest.mark.parametrize("heads", [False, True])
def test_a_figure_names_layer_heads_size_and_checksum(shown, heads: bool):
    settings = AttentionSettings(layer=2, heads=heads, img_size=64)
    facts = attention_figure(shown, [PHOTO], settings, WORDING).facts
    assert facts["layers"] == [2] and facts["img_size"] == [64]
    assert facts["heads"] == ([4] if heads else "mean")
    for part in ("block 2 of 3", "64 px", facts["weights"][0]["sha256"][:8]):
        assert part in facts["caption"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(layer=4), "--layer 4: weights has 3 blocks, give 1 to 3, or -1 for the last"),
        (dict(layer=0), "--layer 0: "),
        (dict(img_size=36), "images of 36 px are not a multiple of the patches of 8 px"),
    ],
)
def test_what_an_encoder_does_not_have_is_refused(shown, settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        attention_figure(shown, [PHOTO], AttentionSettings(**settings), WORDING)


def test_an_encoder_without_class_token_is_refused(tmp_path: Path):
    file = save_state(tiny_vit(with_cls_token=False).state_dict(), tmp_path)
    shown = read_systems([str(file)], num_heads=4)
    with pytest.raises(UserError, match=r"no class attention, and no attention pooling: leave"):
        attention_figure(shown, [PHOTO], AttentionSettings(), WORDING)


def test_without_a_class_token_the_query_of_the_pooling_is_shown(tmp_path: Path):
    file = save_state(zoo.siglip().content, tmp_path)
    shown = read_systems([str(file)], num_heads=zoo.HEADS)
    imgs = torch.randn(1, 3, 32, 32)
    maps = query_attention(shown[0].vit, imgs)
    pool = shown[0].vit.attn_pool
    pool.fused_attn = False
    tokens = shown[0].vit.ln1(shown[0].vit.tokens_after(imgs, [zoo.LAYERS - 1])[zoo.LAYERS - 1])
    values = pool.kv(tokens)[..., zoo.D :].unflatten(2, (zoo.HEADS, -1)).transpose(1, 2)
    found = []
    pool.proj.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    pool(tokens)  # timm's own sum of the values, weighted by its own attention
    ours = (maps.flatten(2).unsqueeze(2) @ values)[:, :, 0].flatten(1)
    torch.testing.assert_close(ours, found[0][:, 0])
    outcome = attention_figure(shown, [PHOTO], AttentionSettings(), WORDING)
    assert "of the query of the pooling: SigLIP." in outcome.facts["caption"]
    with pytest.raises(UserError, match="leave out --layer"):
        attention_figure(shown, [PHOTO], AttentionSettings(layer=1), WORDING)


def test_a_sink_in_the_plain_half_is_measured_as_one():
    image = np.zeros((40, 40, 3))
    image[:20] = np.random.default_rng(0).random((20, 40, 3))
    variance = patch_variance(image, (10, 10))[None]
    assert (variance[0, 5:] == 0).all()
    attention = np.full((1, 10, 10), 0.4 / 100)
    attention[0, 9, 9] += 0.4  # and 0.2 to class token and registers
    found = concentration(attention, variance)
    assert found.top == pytest.approx(0.404 / 0.8)
    assert found.elsewhere == pytest.approx(0.2)
    assert found.strongest == pytest.approx((0.404 + 4 * 0.004) / 0.8)
    assert found.patches < 30
    even = concentration(np.full((1, 10, 10), 0.01), variance)
    assert (even.patches, even.top) == (pytest.approx(100), pytest.approx(0.01))
