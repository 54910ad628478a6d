"""PlainViT: against mmpretrain's VisionTransformer, its windows, sizes and options."""

import pytest
import torch
from mmpretrain.models import VisionTransformer

from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from tests.helpers import TINY_ARCH, randomise, tiny_vit


@pytest.mark.parametrize("out_type", ["raw", "cls_token", "avg_featmap", "featmap"])
def test_mmpretrain_weights_load_as_they_are_and_give_equal_outputs(out_type):
    theirs = VisionTransformer(
        arch=TINY_ARCH | dict(feedforward_channels=4 * 48),
        img_size=32,
        patch_size=8,
        out_type=out_type,
        out_indices=(1, 2),
        norm_cfg=dict(type="LN", eps=1e-6),
    )
    randomise(theirs).eval()
    ours = PlainViT(
        TINY_ARCH, img_size=32, patch_size=8, out_type=out_type, out_indices=(1, 2)
    ).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    imgs = torch.randn(2, 3, 32, 32)
    for out, expected in zip(ours(imgs), theirs(imgs), strict=True):
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_encoding_all_patches_equals_the_forward_pass():
    vit = tiny_vit(out_type="raw")
    imgs = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(vit.encode(vit.embed(imgs)), vit(imgs)[0])


def test_order_of_the_kept_patches_does_not_matter():
    vit = tiny_vit()
    tokens = vit.embed(torch.randn(1, 3, 32, 32))
    order = torch.randperm(16)
    out, shuffled = vit.encode(tokens), vit.encode(tokens[:, order])
    torch.testing.assert_close(shuffled[:, 1:], out[:, 1:][:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window_size", [0, 3])
def test_training_in_bfloat16_gives_the_gradients_of_float32_up_to_rounding(window_size: int):
    vit = tiny_vit(with_cls_token=False, window_size=window_size).train()
    imgs = torch.randn(2, 3, 32, 32)
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        vit.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            (out,) = vit(imgs)
        out.float().square().mean().backward()
        gradients[dtype] = {name: p.grad.clone() for name, p in vit.named_parameters()}
    for name, exact in gradients[torch.float32].items():
        difference = gradients[torch.bfloat16][name] - exact
        assert difference.norm() < 0.05 * exact.norm(), name


def test_a_window_sees_nothing_of_other_windows():
    vit = tiny_vit(with_cls_token=False, window_size=2)
    imgs = torch.randn(1, 3, 32, 32)
    changed = imgs.clone()
    changed[..., 16:, 16:] += 1  # the last of 2x2 windows of 2x2 patches
    same = vit(imgs)[0] == vit(changed)[0]
    assert same[..., :2, :].all()
    assert same[..., :2].all()
    assert not same[..., 2:, 2:].any()


def test_global_layers_attend_across_windows():
    vit = tiny_vit(with_cls_token=False, window_size=2, global_layers=(1,))
    assert [layer.window_size for layer in vit.layers] == [2, 0, 2]
    imgs = torch.randn(1, 3, 32, 32)
    changed = imgs.clone()
    changed[..., 16:, 16:] += 1
    assert not (vit(imgs)[0] == vit(changed)[0])[..., :2, :2].any()


def test_negative_global_layers_count_from_the_end():
    vit = tiny_vit(with_cls_token=False, window_size=2, global_layers=(-1,))
    assert [layer.window_size for layer in vit.layers] == [2, 2, 0]


RELATIVE = dict(with_cls_token=False, window_size=3, global_layers=(1,), rel_pos_grid=4)


@pytest.mark.parametrize(
    "options",
    [
        dict(layer_scale=0.1),
        dict(pre_norm=True, patch_bias=False, act="QuickGELU"),
        dict(with_pos_embed=False, rel_pos_bias_grid=(4, 4)),
        dict(with_pos_embed=False, num_registers=2, rope_base=100.0),
        RELATIVE,
    ],
)
def test_checkpointing_changes_no_gradient(options):
    plain, frugal = tiny_vit(**options).train(), tiny_vit(**options, with_cp=True).train()
    frugal.load_state_dict(plain.state_dict())
    imgs = torch.randn(2, 3, 48, 24)
    for vit in (plain, frugal):
        vit(imgs)[0].square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "options",
    [
        dict(with_cls_token=False, window_size=2),
        dict(with_cls_token=False, rel_pos_grid=4),
        dict(rel_pos_bias_grid=(4, 4)),
    ],
)
def test_a_subset_of_patches_is_refused_where_places_matter(options):
    vit = tiny_vit(**options)
    with pytest.raises(UserError, match="any subset of patches"):
        vit.encode(vit.embed(torch.randn(1, 3, 32, 32)))


def test_rotary_positions_ask_which_patches_were_kept():
    vit, ids = tiny_vit(with_pos_embed=False, rope_base=100.0), torch.arange(5)[None]
    with pytest.raises(UserError, match=r"has 5 of 16 patches.* pass ids_keep"):
        vit.encode(vit.embed(torch.randn(1, 3, 32, 32), ids))


def test_drop_path_acts_in_training_only():
    vit = tiny_vit(drop_path_rate=0.9)
    imgs = torch.randn(4, 3, 32, 32)
    assert torch.equal(vit.eval()(imgs)[0], vit(imgs)[0])
    assert not torch.equal(vit.train()(imgs)[0], vit(imgs)[0])


def test_drop_path_grows_linearly_over_the_blocks():
    rates = [layer.drop_path.drop_prob for layer in tiny_vit(drop_path_rate=0.2).layers]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_non_square_images_give_non_square_maps():
    assert tiny_vit()(torch.randn(2, 3, 24, 56))[0].shape == (2, 48, 3, 7)


def test_other_image_size_uses_the_resized_position_table():
    vit = tiny_vit(out_type="raw")
    imgs = torch.randn(1, 3, 48, 24)
    tokens = vit.embed(imgs) - vit.patch_embed(imgs)
    table = vit.pos_embed[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(table, (6, 3), mode="bicubic")
    torch.testing.assert_close(tokens, resized.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_without_class_token_the_map_holds_all_patches():
    vit = tiny_vit(with_cls_token=False, out_type="raw")
    assert "cls_token" not in vit.state_dict()
    assert vit(torch.randn(2, 3, 32, 32))[0].shape == (2, 16, 48)


def test_earlier_blocks_leave_without_the_final_norm():
    vit = tiny_vit(out_indices=(0, 1, 2), out_type="raw")
    plain = tiny_vit(out_indices=(0, 1, 2), out_type="raw", final_norm=False)
    plain.load_state_dict(vit.state_dict(), strict=False)
    imgs = torch.randn(1, 3, 32, 32)
    first, second, last = vit(imgs)
    expected = plain(imgs)
    assert torch.equal(first, expected[0])
    assert torch.equal(second, expected[1])
    torch.testing.assert_close(last, vit.ln1(expected[2]))


def test_fixed_positions_take_no_gradient():
    assert not tiny_vit(fixed_pos_embed=True).pos_embed.requires_grad
    assert tiny_vit().pos_embed.requires_grad


def test_fresh_linear_layers_are_xavier_uniform_with_zero_bias():
    vit = PlainViT(dict(embed_dims=192, num_layers=1, num_heads=3), img_size=32, patch_size=8)
    for weight in (vit.layers[0].attn.qkv.weight, vit.patch_embed.projection.weight.flatten(1)):
        bound = (6 / sum(weight.shape)) ** 0.5
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not any(p.any() for n, p in vit.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("cls_token", 0),
        ("pos_embed", 0),
        ("patch_embed.projection.weight", 0),
        ("layers.0.ln1.weight", 1),
        ("layers.2.ffn.layers.1.bias", 3),
        ("register_tokens", 0),
        ("pre_norm.weight", 0),
        ("layers.1.gamma_1", 2),
        ("ln1.weight", 4),
    ],
)
def test_layer_depth_counts_from_the_embedding(name, depth):
    vit = tiny_vit(pre_norm=True, num_registers=2, layer_scale=0.1)
    assert name in vit.state_dict()
    assert vit.get_layer_depth(f"backbone.{name}", "backbone.") == (depth, 5)
    assert vit.get_layer_depth(name) == (depth, 5)


def test_layer_depth_outside_the_backbone_is_the_last():
    vit = tiny_vit()
    assert vit.get_layer_depth("decode_head.layers.0.weight", "backbone.") == (4, 5)
    assert vit.get_layer_depth("neck.cls_token", "backbone.") == (4, 5)


def test_image_that_the_patch_does_not_divide_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match="30x32 pixels is not a multiple of the patch size 8: pad"):
        tiny_vit()(torch.randn(1, 3, 30, 32))


def test_a_frozen_encoder_takes_no_gradient_and_stays_in_eval_mode():
    vit = tiny_vit(frozen=True, drop_path_rate=0.9).train()
    imgs = torch.randn(4, 3, 32, 32)
    assert not any(module.training for module in vit.modules())
    assert not vit(imgs)[0].requires_grad
    assert torch.equal(vit(imgs)[0], vit(imgs)[0])


def test_a_frozen_encoder_stays_in_eval_mode_inside_a_model_that_trains():
    model = torch.nn.Sequential(tiny_vit(frozen=True), torch.nn.BatchNorm2d(48)).train()
    assert not model[0].training and model[1].training
