"""Target heads: what the losses measure, and on which tokens."""

import pytest
import torch

from milan_mm.pretrain.masking import split_patches
from milan_mm.pretrain.targets import CLIPTargetHead, PixelTargetHead
from tests.helpers import random_split, teacher_settings


@pytest.fixture(scope="module")
def clip_head() -> CLIPTargetHead:
    return CLIPTargetHead(teacher_settings())


def test_clip_loss_is_0_for_parallel_and_4_for_opposite_vectors(clip_head):
    target = torch.randn(2, 5, 8)
    ids_mask = torch.zeros(2, 1, dtype=torch.int64)
    assert clip_head.loss(3 * target, target, ids_mask).item() == pytest.approx(0, abs=1e-6)
    assert clip_head.loss(-0.1 * target, target, ids_mask).item() == pytest.approx(4, abs=1e-6)


def test_clip_loss_counts_class_kept_and_masked_tokens_alike(clip_head):
    target = torch.randn(1, 5, 8)
    for token in range(5):
        pred = target.clone()
        pred[:, token] *= -1
        loss = clip_head.loss(pred, target, torch.tensor([[0, 1]]))
        assert loss.item() == pytest.approx(4 / 5, abs=1e-5)


def test_clip_loss_on_masked_tokens_ignores_all_others():
    head = CLIPTargetHead(teacher_settings(), loss_tokens="masked")
    target = torch.randn(1, 5, 8)
    for token, expected in enumerate([0, 0, 2, 0, 2]):  # patches 1 and 3 are tokens 2 and 4
        pred = target.clone()
        pred[:, token] *= -1
        loss = head.loss(pred, target, torch.tensor([[1, 3]]))
        assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_pixel_loss_on_all_tokens_is_the_mean_over_all_patches():
    head = PixelTargetHead(patch_size=2, norm_pix=False, loss_tokens="all")
    pred, target = torch.randn(3, 1 + 9, 12), torch.randn(3, 9, 12)
    loss = head.loss(pred, target, torch.zeros(3, 1, dtype=torch.int64))
    torch.testing.assert_close(loss, (pred[:, 1:] - target).square().mean())


def test_unknown_loss_tokens_are_refused():
    with pytest.raises(ValueError, match="loss_tokens 'visible' is unknown: choose from"):
        PixelTargetHead(patch_size=2, norm_pix=False, loss_tokens="visible")


def test_clip_targets_are_features_and_class_attention_of_the_teacher(clip_head):
    target, importance = clip_head.targets(torch.randn(2, 3, 96, 96))
    assert target.shape == (2, 1 + 144, 128)
    assert importance.shape == (2, 144)
    assert (importance >= 0).all()
    assert (importance.sum(dim=1) < 1).all()  # the rest is what the class token pays to itself


@pytest.mark.parametrize("kind", ["clip", "pixels"])
def test_losses_are_float32_under_bfloat16_autocast(kind, clip_head):
    head = clip_head if kind == "clip" else PixelTargetHead(patch_size=2, norm_pix=True)
    pred = torch.randn(2, 5, 12)
    target = torch.randn(2, 5 if kind == "clip" else 4, 12)
    expected = head.token_loss(pred.bfloat16().float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.token_loss(pred.bfloat16(), target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("norm_pix", [False, True])
def test_pixel_target_equals_a_loop_over_patches(norm_pix):
    imgs = torch.randn(2, 3, 8, 12) * 3 + 1
    target, importance = PixelTargetHead(patch_size=4, norm_pix=norm_pix).targets(imgs)
    assert importance is None
    assert target.shape == (2, 6, 48)
    for b in range(2):
        for number in range(6):
            y, x = divmod(number, 3)
            pixels = imgs[b, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            patch = torch.stack([pixels[:, i, j] for i in range(4) for j in range(4)]).flatten()
            if norm_pix:
                patch = (patch - patch.mean()) / (patch.var(unbiased=True) + 1e-6).sqrt()
            torch.testing.assert_close(target[b, number], patch)


def test_flat_patch_gives_a_finite_normalised_target():
    target, _ = PixelTargetHead(patch_size=4, norm_pix=True).targets(torch.full((1, 3, 8, 8), 0.5))
    assert torch.equal(target, torch.zeros_like(target))


def test_pixel_loss_is_the_mean_over_masked_patches_only():
    head = PixelTargetHead(patch_size=2, norm_pix=False)
    pred, target = torch.randn(3, 1 + 9, 12, requires_grad=True), torch.randn(3, 9, 12)
    _, ids_mask = random_split(3, 9, num_keep=4)
    loss = head.loss(pred, target, ids_mask)
    errors = [
        (pred[b, 1 + number] - target[b, number]).square().mean()
        for b in range(3)
        for number in ids_mask[b].tolist()
    ]
    torch.testing.assert_close(loss, torch.stack(errors).mean())
    loss.backward()
    counted = pred.grad.any(dim=-1)
    assert counted.sum() == ids_mask.numel()
    assert not counted[:, 0].any()  # the class token has no pixels


def test_importance_of_the_teacher_decides_what_is_kept(clip_head):
    _, importance = clip_head.targets(torch.randn(1, 3, 96, 96))
    ids_keep, _ = split_patches(importance, torch.zeros(1, 144), num_keep=36)
    assert importance[0, ids_keep[0]].min() >= importance[0].sort(descending=True).values[35]


def test_pixels_refuse_a_teacher_of_several_target_layers():
    with pytest.raises(ValueError, match=r"num_target_layers=2 .* but the target is pixels"):
        PixelTargetHead(8, norm_pix=True, teacher=teacher_settings(num_target_layers=2))


@pytest.mark.parametrize("norm_pix", [False, True])
def test_the_picture_of_the_pixel_target_is_the_image(norm_pix: bool):
    head = PixelTargetHead(patch_size=8, norm_pix=norm_pix)
    imgs = torch.randn(2, 3, 16, 24)
    target, _ = head.targets(imgs)
    pred = torch.cat([torch.zeros(2, 1, 192), target], dim=1)  # a class token comes first
    torch.testing.assert_close(head.picture(pred, imgs), imgs, atol=1e-5, rtol=0)
