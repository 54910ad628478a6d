"""What SLIP adds to CLIP: views that keep what captions name, and SimCLR's loss."""

import math

import pytest
import torch

from milan_mm.shapes.views import make_projector, simclr_loss, view_pairs


def slow_loss(views: torch.Tensor, temperature: float) -> float:
    """Equation 1 of SimCLR with loops, averaged over all ordered pairs."""
    num = len(views)

    def similarity(i: int, j: int) -> float:
        return float(views[i] @ views[j] / (views[i].norm() * views[j].norm())) / temperature

    total = 0.0
    for i in range(num):
        partner = (i + num // 2) % num
        others = sum(math.exp(similarity(i, k)) for k in range(num) if k != i)
        total -= math.log(math.exp(similarity(i, partner)) / others)
    return total / num


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_loss_is_equation_1_of_the_paper(temperature):
    views = torch.randn(10, 7)
    loss = simclr_loss(views, temperature)
    assert loss.item() == pytest.approx(slow_loss(views.double(), temperature), rel=1e-4)


def test_simclr_loss_ignores_the_length_of_the_features():
    views = torch.randn(8, 5)
    torch.testing.assert_close(simclr_loss(views), simclr_loss(views * torch.rand(8, 1) * 9))


def test_simclr_loss_is_lowest_for_equal_partners():
    first = torch.eye(4)
    equal = simclr_loss(torch.cat([first, first]))
    assert equal < simclr_loss(torch.cat([first, first.roll(1, dims=0)]))
    assert equal < 1e-3


def test_the_second_half_of_the_views_are_the_partners_of_the_first():
    images = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    for channel in range(3):
        images[channel, channel] = 200  # a red, a green and a blue image
    views = view_pairs(images)
    assert views.shape == (6, 3, 16, 16)
    assert views.dtype == torch.uint8
    assert views.float().mean(dim=(2, 3)).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]


def test_the_views_of_an_image_differ():
    first, second = view_pairs(torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8))
    assert not torch.equal(first, second)


def test_views_keep_hues_apart():
    orange = torch.tensor([240, 120, 20], dtype=torch.uint8).view(1, 3, 1, 1)
    views = view_pairs(orange.repeat(40, 1, 8, 8)).float()
    red, green, blue = views.mean(dim=(2, 3)).T
    assert (red > green + 40).all()
    assert (green > blue + 40).all()


def test_no_view_magnifies_a_small_object_to_a_large_one():
    images = torch.zeros(40, 3, 96, 96, dtype=torch.uint8)
    images[:, :, 37:59, 37:59] = 255  # 22 pixels, the largest of the small ones
    views = view_pairs(images).float().amax(1)  # (80, 96, 96)
    wide = (views > 0.5 * views.amax((1, 2), keepdim=True)).any(1).sum(1)
    assert wide.max() < 30  # the smallest of the large ones
    assert wide.min() >= 20


def test_the_projector_has_three_layers_with_batch_norm_between_them():
    kinds = [type(layer).__name__ for layer in make_projector(8)]
    norm = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds == [*norm, *norm, "Linear", "Dropout"]
