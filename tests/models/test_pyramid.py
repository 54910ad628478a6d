"""The feature pyramid."""

import pytest
import torch

from milan_mm.models.pyramid import SimpleFeaturePyramid


def test_levels_are_normalised_over_the_channels_of_each_pixel():
    pyramid = SimpleFeaturePyramid(in_channels=16, out_channels=8)
    for level in pyramid((torch.randn(2, 16, 8, 12) * 5 + 2,)):
        torch.testing.assert_close(
            level.mean(dim=1), torch.zeros_like(level[:, 0]), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            level.var(dim=1, unbiased=False), torch.ones_like(level[:, 0]), atol=1e-2, rtol=0
        )


def test_levels_have_strides_4_to_64_for_patches_of_16():
    pyramid = SimpleFeaturePyramid(in_channels=16, out_channels=8)
    outs = pyramid((torch.randn(2, 16, 8, 12),))  # an image of 128x192 pixels
    strides = [(128 / out.shape[2], 192 / out.shape[3]) for out in outs]
    assert strides == [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]
    assert {out.shape[:2] for out in outs} == {(2, 8)}


def test_extra_level_is_the_last_one_subsampled():
    pyramid = SimpleFeaturePyramid(in_channels=16, out_channels=8, num_extra_outs=1)
    *_, last, extra = pyramid((torch.randn(1, 16, 8, 8),))
    assert torch.equal(extra, last[..., ::2, ::2])


def test_chosen_levels_follow_scale_factors():
    pyramid = SimpleFeaturePyramid(16, 8, scale_factors=(2, 1, 0.5), num_extra_outs=0)
    outs = pyramid((torch.randn(1, 16, 6, 6),))
    assert [out.shape[-1] for out in outs] == [12, 6, 3]


def test_every_level_passes_a_gradient_to_every_parameter_of_its_own():
    pyramid = SimpleFeaturePyramid(in_channels=16, out_channels=8)
    sum(out.square().sum() for out in pyramid((torch.randn(1, 16, 4, 4),))).backward()
    assert all(p.grad is not None and p.grad.any() for p in pyramid.parameters())


def test_unknown_scale_factor_is_refused():
    with pytest.raises(ValueError, match="scale factor 3 is not one of"):
        SimpleFeaturePyramid(16, 8, scale_factors=(3,))


def test_level_of_factor_four_equals_explicit_layers():
    pyramid = SimpleFeaturePyramid(16, 8, scale_factors=(4,), num_extra_outs=0)
    resize, project = pyramid.levels[0]
    x = torch.randn(1, 16, 3, 3)
    up = _upsample(torch.nn.functional.gelu(resize[1](_upsample(x, resize[0]))), resize[3])
    torch.testing.assert_close(pyramid((x,))[0], project(up))


def _upsample(x: torch.Tensor, layer: torch.nn.ConvTranspose2d) -> torch.Tensor:
    """Each pixel becomes 2x2 pixels: its channels times the kernel, without overlap."""
    out = torch.einsum("bchw,coij->bohiwj", x, layer.weight).flatten(4, 5).flatten(2, 3)
    return out + layer.bias.view(1, -1, 1, 1)
