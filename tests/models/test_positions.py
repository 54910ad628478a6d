"""Position tables: against explicit formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from milan_mm.models.positions import resize_pos_embed, sincos_pos_embed


def slow_sincos(dims: int, h: int, w: int) -> torch.Tensor:
    rows = []
    for y in range(h):
        for x in range(w):
            row = []
            for coordinate in (x, y):
                angles = [coordinate / 10000 ** (4 * i / dims) for i in range(dims // 4)]
                row += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            rows.append(row)
    return torch.tensor(rows).unsqueeze(0)


def test_sincos_equals_the_written_formula():
    torch.testing.assert_close(
        sincos_pos_embed(24, (3, 5), with_cls_token=False), slow_sincos(24, 3, 5)
    )


def test_column_fills_the_first_half_of_the_channels():
    table = sincos_pos_embed(16, (4, 4), with_cls_token=False).view(4, 4, 16)
    assert torch.equal(table[0, 2, :8], table[3, 2, :8])  # same column, other row
    assert torch.equal(table[2, 0, 8:], table[2, 3, 8:])  # same row, other column


def test_class_row_is_zero_and_first():
    table = sincos_pos_embed(16, (2, 3), with_cls_token=True)
    assert table.shape == (1, 7, 16)
    assert not table[:, 0].any()
    assert torch.equal(table[:, 1:], sincos_pos_embed(16, (2, 3), with_cls_token=False))


def test_width_that_is_no_multiple_of_four_is_refused():
    with pytest.raises(ValueError, match="embed_dims 18 is not a multiple of 4"):
        sincos_pos_embed(18, (2, 2), with_cls_token=False)


def test_resize_to_the_same_grid_returns_the_same_tensor():
    table = torch.randn(1, 17, 8)
    assert resize_pos_embed(table, (4, 4), (4, 4)) is table


@pytest.mark.parametrize("grid", [(9, 5), (3, 11), (14, 14), (2, 2)])
def test_resize_treats_every_channel_as_a_picture(grid):
    table = torch.randn(1, 1 + 36, 8)
    resized = resize_pos_embed(table, (6, 6), grid)
    for channel in range(8):
        picture = table[0, 1:, channel].view(1, 1, 6, 6)
        expected = F.interpolate(picture, grid, mode="bicubic", antialias=True).flatten()
        torch.testing.assert_close(resized[0, 1:, channel], expected, rtol=1e-6, atol=1e-6)


def test_resize_leaves_prefix_rows_untouched():
    table = torch.randn(1, 3 + 16, 8)
    assert torch.equal(resize_pos_embed(table, (4, 4), (5, 7))[:, :3], table[:, :3])


def test_resize_keeps_the_dtype():
    assert (
        resize_pos_embed(torch.randn(1, 16, 8).bfloat16(), (4, 4), (6, 2)).dtype == torch.bfloat16
    )


def test_resize_from_a_non_square_grid_keeps_rows_and_columns_apart():
    rows = torch.arange(3.0).repeat_interleave(6).view(1, 18, 1)  # each patch holds its row number
    resized = resize_pos_embed(rows, (3, 6), (3, 12)).view(3, 12)
    torch.testing.assert_close(resized, torch.arange(3.0).view(3, 1).expand(3, 12))
