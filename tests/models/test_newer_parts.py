"""SwiGLU, RMSNorm, further norms and rotary positions: in every task, and at no cost elsewhere."""

import pytest
import torch
from torch import Tensor

from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.positions import ROPE_KINDS, build_rope, rotary_embed
from tests.helpers import tiny_vit
from tests.models.parts import PARTS, vit_of

kinds = pytest.mark.parametrize("kind", PARTS)


def gradients(vit: PlainViT, imgs: Tensor) -> dict[str, Tensor]:
    vit.zero_grad()
    vit(imgs)[0].float().square().mean().backward()
    return {name: p.grad for name, p in vit.named_parameters() if p.grad is not None}


@kinds
def test_recomputed_activations_give_the_same_gradients(kind: str):
    imgs = torch.randn(2, 3, 32, 32)
    plain, lean = vit_of(kind).train(), vit_of(kind, with_cp=True).train()
    lean.load_state_dict(plain.state_dict())
    expected, found = gradients(plain, imgs), gradients(lean, imgs)
    assert expected.keys() == found.keys() == dict(plain.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, n=name: f"{n}: {text}")


@kinds
def test_bfloat16_trains_close_to_float32(kind: str):
    imgs = torch.randn(2, 3, 32, 32)
    vit = vit_of(kind).train()
    expected = vit(imgs)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = vit(imgs)[0]
        found.float().sum().backward()
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()


@kinds
def test_windows_are_images_of_their_own_in_every_block(kind: str):
    """DINOv3's rotary positions are those of the whole image, so for them it is one window."""
    rotary = ROPE_KINDS[PARTS[kind].get("rope_kind", "dinov3")]
    size = 4 if "rope_base" in PARTS[kind] and not rotary.anew_in_windows else 2
    none = dict(with_cls_token=False, with_pos_embed=False, num_registers=0, pool_heads=0)
    options = PARTS[kind] | none | dict(out_type="raw")
    imgs = torch.randn(2, 3, 32, 32)
    windowed, whole = tiny_vit(window_size=size, **options), tiny_vit(**options)
    whole.load_state_dict(windowed.state_dict())
    (out,) = windowed.eval()(imgs)
    for row in range(0, 4, size):
        for column in range(0, 4, size):
            rows, columns = (slice(8 * n, 8 * (n + size)) for n in (row, column))
            (expected,) = whole.eval()(imgs[..., rows, columns])
            found = out.unflatten(1, (4, 4))[:, row : row + size, column : column + size]
            torch.testing.assert_close(found.flatten(1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ROPE_KINDS)
@pytest.mark.parametrize("grid", [None, (16, 16)])
def test_rotary_positions_of_unknown_sizes_are_those_of_timm(
    kind: str, grid: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
):
    rope = build_rope(kind, 16, 1e4, grid)
    expected = rotary_embed(rope, (3, 5))
    monkeypatch.setattr("milan_mm.models.positions.are_known", lambda *sizes: False)
    torch.testing.assert_close(rotary_embed(rope, (3, 5)), expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_without_these_parts_has_no_parameter_more():
    assert not any(
        word in name for name in tiny_vit().state_dict() for word in ("q_norm", "ffn.norm", "pool")
    )
