"""Patches in windows and back."""

import pytest
import torch

from milan_mm.models.patches import merge_windows, split_windows


@pytest.mark.parametrize("grid", [(64, 64), (14, 28), (5, 17), (1, 1)])
def test_merge_undoes_split(grid):
    x = torch.randn(2, *grid, 3)
    assert torch.equal(merge_windows(split_windows(x, 14), 14, grid), x)


def test_grid_of_64_is_padded_to_70_for_windows_of_14():
    windows = split_windows(torch.ones(1, 64, 64, 2), 14)
    assert windows.shape == (25, 196, 2)
    assert windows.sum() == 64 * 64 * 2  # the padding is zero
