"""The federated loss, against its formula and torch's own drawing without replacement."""

import math

import pytest
import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.federated import FederatedLoss

NUM_CLASSES = 30
COUNTS = torch.arange(NUM_CLASSES).float() ** 2  # the first class has no image


def loss_of(num_drawn: int = 8, **settings: float) -> FederatedLoss:
    loss = FederatedLoss(NUM_CLASSES, num_drawn, **settings)
    loss.set_image_counts(COUNTS)
    return loss


def test_it_is_the_mean_over_regions_of_binary_cross_entropies_over_counted_classes():
    loss, labels = loss_of(), torch.tensor([3, 17, NUM_CLASSES, 3])
    logits = torch.randn(4, NUM_CLASSES, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    value = loss(logits, labels, torch.ones(4), avg_factor=4)
    torch.manual_seed(5)
    counted = loss.counted_classes(labels).tolist()
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        for number, logit in enumerate(row):
            if counted[number]:
                score = 1 / (1 + math.exp(-logit))
                expected -= math.log(score if number == label else 1 - score)
    assert float(value) == pytest.approx(expected / 4, rel=1e-5)


def drawn_shares(draw: object, times: int) -> Tensor:
    return sum(draw() for _ in range(times)) / times  # type: ignore[operator,misc]


def test_classes_are_drawn_as_torch_draws_them_without_replacement():
    """By the root of their images, beside those of the batch; the background fills a place."""
    labels, times = torch.tensor([3, 17, NUM_CLASSES]), 3000
    loss = loss_of()
    chances = COUNTS.sqrt().scatter(0, labels[:2], 0.0)

    def judge() -> Tensor:
        drawn = torch.multinomial(chances, 8 - 3, replacement=False)
        return torch.zeros(NUM_CLASSES).scatter(0, torch.cat([drawn, labels[:2]]), 1.0)

    torch.manual_seed(0)
    ours = drawn_shares(lambda: loss.counted_classes(labels), times)
    theirs = drawn_shares(judge, times)
    assert float(ours.sum()) == pytest.approx(7)  # with the background 8
    assert ours[3] == ours[17] == 1 and ours[0] == 0
    # five standard errors of the difference of two shares
    assert (ours - theirs).abs().max() < 5 * math.sqrt(2 * 0.25 / times)


def test_a_batch_with_more_classes_than_places_counts_all_of_them():
    labels = torch.arange(20)
    assert loss_of(num_drawn=8).counted_classes(labels).nonzero().flatten().tolist() == [*range(20)]


def test_fewer_classes_with_images_than_places_are_all_counted():
    loss = FederatedLoss(4, num_drawn=50)
    loss.set_image_counts(torch.tensor([5.0, 0, 1, 0]))
    assert loss.counted_classes(torch.tensor([1])).tolist() == [1, 1, 1, 0]


def test_classes_that_are_not_counted_have_no_gradient():
    loss, labels = loss_of(), torch.tensor([3, 17])
    logits = torch.randn(2, NUM_CLASSES, requires_grad=True)
    loss(logits, labels).backward()
    touched = logits.grad.abs().sum(dim=0) > 0
    assert int(touched.sum()) == 8


def test_scores_are_sigmoids_beside_a_background_of_0():
    logits = torch.randn(3, NUM_CLASSES)
    scores = loss_of().get_activation(logits)
    torch.testing.assert_close(scores[:, :-1], logits.sigmoid())
    assert scores.shape == (3, NUM_CLASSES + 1) and not scores[:, -1].any()


def test_another_number_of_classes_is_refused():
    with pytest.raises(UserError, match="the data have 5 classes"):
        FederatedLoss(NUM_CLASSES).set_image_counts(torch.ones(5))
