"""Decomposed relative positions: against a loop over pairs, in windows, resized, loaded."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ViTSAM
from torch import Tensor

from milan_mm.models.block import EncoderLayer
from milan_mm.models.relative_positions import attend_with_rel_pos, resize_rel_pos
from tests.helpers import tiny_vit

DIMS = 8


def random_tensors(grid: tuple[int, int], table_grid: tuple[int, int]) -> list[Tensor]:
    """q, k, v (2, 3, h*w, d) and both tables."""
    tokens = [torch.randn(2, 3, grid[0] * grid[1], DIMS) for _ in range(3)]
    tables = [torch.randn(2 * n - 1, DIMS) for n in table_grid]
    return [tensor.requires_grad_() for tensor in (*tokens, *tables)]


def explicit_attention(
    q: Tensor, k: Tensor, v: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, grid: tuple[int, int]
) -> Tensor:
    """The formula pair by pair, for tables that have one entry for each distance of the grid."""
    height, width = grid
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    bias = torch.stack(
        [
            q[..., i, :] @ rel_pos_h[i // width - j // width + height - 1]
            + q[..., i, :] @ rel_pos_w[i % width - j % width + width - 1]
            for i in range(height * width)
            for j in range(height * width)
        ],
        dim=-1,
    )
    return (scores + bias.unflatten(-1, (height * width, height * width))).softmax(-1) @ v


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 6)])
def test_output_and_gradients_equal_a_loop_over_pairs(grid):
    tensors = random_tensors(grid, grid)
    out = attend_with_rel_pos(*tensors, grid)
    expected = explicit_attention(*tensors, grid)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    weights = torch.randn_like(out)
    ours = torch.autograd.grad((out * weights).sum(), tensors)
    theirs = torch.autograd.grad((expected * weights).sum(), tensors)
    for gradient, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-4)


def test_tables_of_zeros_change_nothing():
    q, k, v, _, _ = random_tensors((4, 4), (4, 4))
    zeros = torch.zeros(7, DIMS)
    out = attend_with_rel_pos(q, k, v, zeros, zeros, (4, 4))
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v), rtol=0, atol=1e-5)


def test_a_table_of_another_grid_is_resized_linearly():
    *tokens, rel_pos_h, rel_pos_w = random_tensors((4, 6), (6, 6))
    resized = F.interpolate(rel_pos_h.T[None], size=7, mode="linear")[0].T
    out = attend_with_rel_pos(*tokens, rel_pos_h, rel_pos_w, (4, 6))
    expected = explicit_attention(*tokens, resized, rel_pos_w, (4, 6))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_resizing_to_the_same_length_returns_the_table_itself():
    table = torch.randn(7, DIMS)
    assert resize_rel_pos(table, 7) is table


def test_the_encoder_equals_mmpretrain_s_vit_of_sam():
    settings = dict(embed_dims=48, num_layers=3, num_heads=4)
    theirs = ViTSAM(
        arch=dict(settings, feedforward_channels=192, global_attn_indexes=[1]),
        img_size=48,
        patch_size=8,
        window_size=4,
        out_channels=0,
        use_rel_pos=True,
        norm_cfg=dict(type="LN", eps=1e-6),
    )
    ours = tiny_vit(
        img_size=48,
        with_cls_token=False,
        final_norm=False,
        window_size=4,
        global_layers=(1,),
        rel_pos_grid=6,
    ).eval()
    state = ours.state_dict()
    state["pos_embed"] = state["pos_embed"].unflatten(1, (6, 6))  # (1, h, w, D)
    theirs.load_state_dict(state)
    theirs.eval()
    imgs = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(ours(imgs)[0], theirs(imgs)[0], rtol=1e-5, atol=1e-5)


def test_tables_start_at_zero_with_one_entry_for_each_distance():
    vit = tiny_vit(with_cls_token=False, window_size=14, global_layers=(1,), rel_pos_grid=(64, 32))
    tables = [(layer.attn.rel_pos_h, layer.attn.rel_pos_w) for layer in vit.layers]
    assert [(len(h), len(w)) for h, w in tables] == [(27, 27), (127, 63), (27, 27)]
    fresh = EncoderLayer(48, 4, window_size=14, rel_pos_grid=(64, 64)).attn
    assert not fresh.rel_pos_h.any() and not fresh.rel_pos_w.any()
