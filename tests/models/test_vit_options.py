"""PlainViT's options: what they refuse, and those that depend on the grid in windows.

tests/weights compares the encoders of other systems with the systems' own classes.
"""

import pytest
import torch
from mmpretrain.models import BEiTViT

from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.vit_options import ViTOptions
from tests.helpers import TINY_ARCH, randomise, tiny_vit

D, LAYERS, HEADS = TINY_ARCH["embed_dims"], TINY_ARCH["num_layers"], TINY_ARCH["num_heads"]


def test_bias_tables_on_a_non_square_grid_equal_mmpretrains_beit():
    theirs = BEiTViT(
        arch=TINY_ARCH | dict(feedforward_channels=4 * D),
        img_size=(48, 24),
        patch_size=8,
        out_type="raw",
        final_norm=True,
    )
    randomise(theirs)
    theirs.train(False)  # mmpretrain's eval() returns nothing
    source = theirs.state_dict()
    ours = PlainViT(
        TINY_ARCH,
        (48, 24),
        8,
        out_type="raw",
        layer_scale=1.0,
        with_pos_embed=False,
        rel_pos_bias_grid=(6, 3),
    )
    values = {n: t for n, t in source.items() if n in ours.state_dict()}
    for i in range(LAYERS):
        q, v = source[f"layers.{i}.attn.q_bias"], source[f"layers.{i}.attn.v_bias"]
        values[f"layers.{i}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    imgs = torch.randn(2, 3, 48, 24)
    ours.load_state_dict(values, strict=True)
    (out,) = ours.eval()(imgs)
    torch.testing.assert_close(out, theirs(imgs)[0], rtol=1e-5, atol=1e-5)


def test_rotary_positions_in_one_window_equal_global_ones():
    settings = dict(with_cls_token=False, with_pos_embed=False, rope_base=100.0, out_type="raw")
    whole = tiny_vit(**settings)
    windowed = tiny_vit(**settings, window_size=4)
    windowed.load_state_dict(whole.state_dict())
    imgs = torch.randn(2, 3, 32, 32)  # 4x4 patches
    torch.testing.assert_close(windowed(imgs)[0], whole(imgs)[0], rtol=1e-4, atol=1e-5)


def test_bias_tables_serve_windows_of_their_own_size():
    settings = dict(with_cls_token=False, with_pos_embed=False, rel_pos_bias_grid=(2, 2))
    windowed = tiny_vit(**settings, window_size=2, out_type="raw")
    whole = tiny_vit(**settings, out_type="raw")
    whole.load_state_dict(windowed.state_dict())
    imgs = torch.randn(1, 3, 32, 32)
    (out,) = windowed(imgs)
    for row in (0, 16):
        for col in (0, 16):
            window = imgs[..., row : row + 16, col : col + 16]
            (expected,) = whole(window)
            found = out.unflatten(1, (4, 4))[:, row // 8 : row // 8 + 2, col // 8 : col // 8 + 2]
            torch.testing.assert_close(found.flatten(1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(arch="gigantic"), "arch 'gigantic' is unknown: choose from .*'base'"),
        (dict(img_size=100), r"img_size \(100, 100\) is not a multiple of patch_size 8: use \(96,"),
        (dict(arch=TINY_ARCH | dict(feedforward_channels=100)), "must have .* and nothing else"),
        (dict(arch=dict(embed_dims=48, num_layers=3)), "must have embed_dims, num_heads, num_lay"),
        (dict(arch=TINY_ARCH | dict(num_heads=5)), "embed_dims 48 is not a multiple of 5 heads"),
        (dict(out_type="pooled"), "out_type 'pooled' is unknown"),
        (dict(out_type="cls_token", with_cls_token=False), "needs with_cls_token=True"),
        (dict(out_indices=(3,)), r"block index 3 is outside -3..2"),
        (dict(global_layers=(-4,)), r"block index -4 is outside -3..2"),
        (dict(window_size=2), "with_cls_token=False"),
        (dict(window_size=2, with_cls_token=False, num_registers=1), "num_registers=0"),
        (dict(rel_pos_grid=4), "with_cls_token=False"),
        (dict(rel_pos_bias_grid=4, num_registers=1), "no entries for registers"),
        (dict(rel_pos_bias_grid=4, rope_base=100.0), "rel_pos_bias_grid and rope_base exclude"),
        (dict(act="ReLU"), "act 'ReLU' is unknown"),
        (dict(norm="BN"), "norm 'BN' is unknown: choose from LN, RMS"),
        (dict(rope_base=100.0, rope_kind="2d"), "rope_kind '2d' is unknown"),
        (dict(rope_base=100.0, arch=TINY_ARCH | dict(num_heads=8)), "multiple of 4 channels"),
        (dict(pool_heads=5), "not a multiple of 5 pool_heads"),
        (dict(out_type="attn_pool"), "needs an encoder with an attention pooling of its own"),
    ],
)
def test_contradictory_options_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        tiny_vit(**settings)


def test_a_model_keeps_the_options_that_it_was_built_from():
    given = dict(img_size=(48, 24), patch_size=8, norm_eps=1e-5, num_registers=2)
    options = PlainViT(TINY_ARCH, **given).options
    assert options == ViTOptions(TINY_ARCH, **given)
    assert (options.embed_dims, options.num_layers, options.num_heads) == (D, LAYERS, HEADS)
    assert (options.grid_size, options.num_prefix_tokens) == ((6, 3), 3)


def test_an_unknown_option_is_an_error_that_names_it():
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        PlainViT(TINY_ARCH, width=48)


def test_gates_in_the_mlp_of_an_attention_pooling_are_refused():
    with pytest.raises(UserError, match=r"act 'SwiGLU' cannot be .* leave out pool_heads"):
        ViTOptions(TINY_ARCH, act="SwiGLU", pool_heads=4, out_type="raw")
