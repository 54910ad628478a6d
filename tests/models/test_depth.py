"""The linear depth head and its loss are what their formulas say."""

import numpy as np
import pytest
import torch

from milan_mm.models.depth import LinearDepthHead, ScaleInvariantLoss


def depths(seed: int, num_images: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and true depths (B, 1, 12, 16), a fifth of the latter missing."""
    generator = torch.Generator().manual_seed(seed)
    pred, target = 0.5 + 9 * torch.rand(2, num_images, 1, 12, 16, generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 0
    return pred, target


def by_hand(pred: torch.Tensor, target: torch.Tensor) -> float:
    """The loss of two images, pixel by pixel."""
    gaps = [
        np.log(p + 1e-3) - np.log(t + 1e-3)
        for p, t in zip(pred.flatten().tolist(), target.flatten().tolist(), strict=True)
        if t > 0
    ]
    return float(np.sqrt(np.var(gaps, ddof=1) + 0.15 * np.mean(gaps) ** 2))


def test_a_depth_is_the_mean_of_the_bins_weighted_by_positive_outputs():
    head = LinearDepthHead(in_channels=6, num_bins=5, min_depth=1.0, max_depth=9.0)
    torch.nn.init.normal_(head.conv_depth.weight)
    x = torch.randn(2, 6, 3, 4)
    with torch.no_grad():
        found = head([x])
    weight, bias = head.conv_depth.weight[:, :, 0, 0], head.conv_depth.bias
    for image, row, column in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        outs = (weight @ x[image, :, row, column] + bias).tolist()
        weights = [max(out, 0) + 0.1 for out in outs]
        mean = sum(w * b for w, b in zip(weights, (1, 3, 5, 7, 9), strict=True)) / sum(weights)
        assert found[image, 0, row, column].item() == pytest.approx(mean, rel=1e-5)
    assert found.min() > 1 and found.max() < 9


def test_the_loss_is_that_of_the_formula_in_groups_of_two_images():
    pred, target = depths(0)
    pairs = [by_hand(pred[i : i + 2], target[i : i + 2]) for i in (0, 2)]
    assert ScaleInvariantLoss()(pred, target).item() == pytest.approx(np.mean(pairs), rel=1e-5)
    halves = [ScaleInvariantLoss()(pred[i : i + 2], target[i : i + 2]).item() for i in (0, 2)]
    assert np.mean(halves) == pytest.approx(ScaleInvariantLoss()(pred, target).item(), rel=1e-6)


def test_pixels_without_depth_and_a_perfect_prediction_give_finite_gradients():
    pred, target = depths(1, num_images=2)
    for true in (torch.zeros_like(target), target):
        guess = (true if true.any() else pred).clone().clamp(min=0.5).requires_grad_()
        loss = ScaleInvariantLoss()(guess, true)
        loss.backward()
        assert loss.item() < 1e-5 and guess.grad.isfinite().all()
        assert not guess.grad[true == 0].any()


def test_bins_that_make_no_depth_are_refused():
    for wrong in (dict(num_bins=1), dict(min_depth=0.0), dict(min_depth=3.0, max_depth=2.0)):
        with pytest.raises(ValueError, match="give 2 bins or more, and depths above 0"):
            LinearDepthHead(8, **wrong)
