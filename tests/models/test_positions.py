"""Position tables: against explicit formulas, and against the code of the rules' sources."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import scipy.ndimage
import torch
from mmpretrain.models.utils import resize_pos_embed as mmpretrain_resize
from mmseg.models.backbones import VisionTransformer as MMSegViT
from open_clip.model import resize_pos_embed as open_clip_resize
from timm.layers import resample_abs_pos_embed
from torchvision.models.vision_transformer import interpolate_embeddings

from milan_mm.models.positions import RESIZE_RULES, resize_pos_embed, sincos_pos_embed
from tests.helpers import tiny_vit
from tests.models.slow_resize import slow_resize


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


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("grid", [(9, 5), (3, 11), (14, 14), (2, 2), (6, 7)])
def test_every_rule_is_the_written_formula(rule: str, grid: tuple[int, int]):
    table = torch.randn(1, 1 + 36, 8)
    expected = slow_resize(table, (6, 6), grid, rule)
    torch.testing.assert_close(resize_pos_embed(table, (6, 6), grid, rule), expected)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="pos_resize 'cubic' is unknown: choose from bicubic, "):
        tiny_vit(pos_resize="cubic")


TABLE, WIDTH = torch.randn(1, 1 + 36, 8, generator=torch.Generator().manual_seed(0)), 8


def by_timm(grid: tuple[int, int]) -> torch.Tensor:
    return resample_abs_pos_embed(TABLE, list(grid), [6, 6])


def by_mmseg(grid: tuple[int, int]) -> torch.Tensor:
    return MMSegViT.resize_pos_embed(TABLE, grid, (6, 6), "bicubic")


def by_mmpretrain(grid: tuple[int, int]) -> torch.Tensor:
    return mmpretrain_resize(TABLE, (6, 6), grid)


def by_open_clip(grid: tuple[int, int]) -> torch.Tensor:
    state = {"visual.positional_embedding": TABLE[0]}
    open_clip_resize(state, SimpleNamespace(visual=SimpleNamespace(grid_size=grid)))
    return state["visual.positional_embedding"][None]


def by_scipy(grid: tuple[int, int]) -> torch.Tensor:
    """The call in Google's code."""
    zoom = (grid[0] / 6, grid[1] / 6, 1)
    patches = scipy.ndimage.zoom(TABLE[0, 1:].unflatten(0, (6, 6)).numpy(), zoom, order=1)
    return torch.cat([TABLE[:, :1], torch.from_numpy(patches).reshape(1, -1, WIDTH)], dim=1)


@pytest.mark.parametrize("grid", [(9, 5), (3, 11), (12, 12), (4, 4)])
@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (by_timm, "bicubic-antialias"),
        (by_open_clip, "bicubic-antialias"),
        (by_mmseg, "bicubic"),
        (by_mmpretrain, "bicubic"),
        (by_scipy, "bilinear-corners"),
    ],
)
def test_a_rule_is_what_the_code_of_its_source_does(
    source: Callable[[tuple[int, int]], torch.Tensor], rule: str, grid: tuple[int, int]
):
    torch.testing.assert_close(resize_pos_embed(TABLE, (6, 6), grid, rule), source(grid))


@pytest.mark.parametrize("side", [3, 4, 9, 12])
def test_aligned_corners_are_those_of_torchvision(side: int):
    state = {"encoder.pos_embedding": TABLE}
    resized = interpolate_embeddings(side * 4, 4, state)["encoder.pos_embedding"]
    ours = resize_pos_embed(TABLE, (6, 6), (side, side), "bicubic-corners")
    torch.testing.assert_close(ours, resized)


def test_resize_leaves_prefix_rows_untouched():
    table = torch.randn(1, 3 + 16, 8)
    assert torch.equal(resize_pos_embed(table, (4, 4), (5, 7))[:, :3], table[:, :3])


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_resize_keeps_the_dtype_and_computes_in_float32_at_least(rule: str, dtype: torch.dtype):
    table = torch.randn(1, 16, 8).to(dtype)
    resized = resize_pos_embed(table, (4, 4), (6, 2), rule)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert torch.equal(resized, resize_pos_embed(table.to(wide), (4, 4), (6, 2), rule).to(dtype))


def test_resize_from_a_non_square_grid_keeps_rows_and_columns_apart():
    rows = torch.arange(3.0).repeat_interleave(6).view(1, 18, 1)  # each patch holds its row number
    resized = resize_pos_embed(rows, (3, 6), (3, 12)).view(3, 12)
    torch.testing.assert_close(resized, torch.arange(3.0).view(3, 1).expand(3, 12))
