"""Tables of relative position biases: looked up pair by pair, resized against SciPy."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline

from milan_mm.models.relative_bias import bias_table_size, look_up_bias, resize_bias_table

HEADS = 2


def random_table(grid: tuple[int, int], with_cls_token: bool) -> torch.Tensor:
    return torch.randn(bias_table_size(grid, with_cls_token), HEADS)


@pytest.mark.parametrize("grid", [(3, 3), (2, 4)])
@pytest.mark.parametrize("with_cls_token", [True, False])
def test_every_pair_gets_the_entry_of_its_distance(grid, with_cls_token):
    table = random_table(grid, with_cls_token)
    bias = look_up_bias(table, grid, grid, with_cls_token)
    h, w = grid
    first = int(with_cls_token)
    for q in range(h * w):
        for k in range(h * w):
            dy, dx = q // w - k // w, q % w - k % w
            entry = (dy + h - 1) * (2 * w - 1) + dx + w - 1
            assert torch.equal(bias[:, first + q, first + k], table[entry])
    if with_cls_token:
        assert torch.equal(bias[:, 0, 1:], table[-3][:, None].expand(-1, h * w))
        assert torch.equal(bias[:, 1:, 0], table[-2][:, None].expand(-1, h * w))
        assert torch.equal(bias[:, 0, 0], table[-1])


def test_an_equal_grid_returns_the_table_itself():
    table = random_table((4, 4), with_cls_token=True)
    assert resize_bias_table(table, (4, 4), (4, 4), with_cls_token=True) is table


def places(src: int, dst: int) -> np.ndarray:
    """BEiT's spacing: 1, 1+q, 1+q+q^2 ... with the q that puts the last one at dst-1."""
    candidates = np.linspace(1.01, 1.5, 400_001)
    reach = sum(candidates**i for i in range(src - 1))
    q = candidates[np.abs(reach - (dst - 1)).argmin()]
    steps = [sum(q**j for j in range(i + 1)) for i in range(src - 1)]
    return np.array([-s for s in reversed(steps)] + [0] + steps)


@pytest.mark.parametrize("dst", [(7, 7), (6, 9), (12, 7)])
def test_resizing_equals_bicubic_splines_on_geometric_places(dst):
    src = (5, 5)
    table = random_table(src, with_cls_token=True)
    resized = resize_bias_table(table, src, dst, with_cls_token=True)
    ys, xs = (np.arange(-(n - 1), n) for n in dst)
    for head in range(HEADS):
        values = table[:-3, head].reshape(9, 9).double().numpy()
        spline = RectBivariateSpline(places(5, dst[0]), places(5, dst[1]), values)
        expected = torch.from_numpy(spline(ys, xs)).float().flatten()
        torch.testing.assert_close(resized[:-3, head], expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(resized[-3:], table[-3:])


def test_gradients_reach_the_table_through_the_resizing():
    table = random_table((3, 3), with_cls_token=False).requires_grad_()
    look_up_bias(table, (3, 3), (5, 4), with_cls_token=False).sum().backward()
    assert table.grad is not None
    assert table.grad.abs().sum() > 0


def test_smaller_grids_keep_the_entries_of_small_distances():
    table = random_table((8, 8), with_cls_token=False)
    smaller = resize_bias_table(table, (8, 8), (4, 4), with_cls_token=False)
    middle = table.unflatten(0, (15, 15))[7, 7]
    torch.testing.assert_close(smaller.unflatten(0, (7, 7))[3, 3], middle, rtol=1e-4, atol=1e-5)
