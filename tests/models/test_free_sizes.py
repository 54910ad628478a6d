"""Sizes that are not numbers yet: the same results as for sizes that are."""

import pytest
import torch
from timm.layers import RotaryEmbeddingDinoV3

from milan_mm.models import positions
from milan_mm.models.free_sizes import resize_freely
from milan_mm.models.patches import split_windows
from milan_mm.models.positions import RESIZE_RULES, rotary_embed
from tests.models.slow_resize import slow_resize


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("dst", [(5, 7), (2, 3), (9, 7), (14, 20)])
def test_resizing_by_a_matrix_equals_the_written_rule(rule: str, dst: tuple[int, int]):
    table = torch.randn(1, 35, 8)
    images = table.mT.unflatten(2, (5, 7))
    freely = resize_freely(images, (5, 7), dst, rule).flatten(2).mT
    torch.testing.assert_close(freely, slow_resize(table, (5, 7), dst, rule), rtol=0, atol=2e-5)


@pytest.mark.parametrize("grid", [(4, 4), (3, 7)])
def test_rotary_positions_equal_timms(grid, monkeypatch: pytest.MonkeyPatch):
    rope = RotaryEmbeddingDinoV3(16, temperature=100.0)
    expected = rotary_embed(rope, grid)
    monkeypatch.setattr(positions, "are_known", lambda *sizes: False)
    torch.testing.assert_close(rotary_embed(rope, grid), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 6)])
def test_windows_are_padded_alike(grid, monkeypatch: pytest.MonkeyPatch):
    x, fill = torch.randn(2, *grid, 5), torch.randn(5)
    expected = split_windows(x, 3, fill)
    monkeypatch.setattr("milan_mm.models.patches.are_known", lambda *sizes: False)
    assert torch.equal(split_windows(x, 3, fill), expected)
