"""The vote of the nearest neighbours, against scikit-learn's classifier and by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier

from milan_mm.evaluation.voting import knn_predict, neighbours, top_k_accuracy


def random_features(num: int, width: int = 6) -> torch.Tensor:
    return F.normalize(torch.randn(num, width), dim=1)


@pytest.mark.parametrize("k", [1, 3, 20, 97])
@pytest.mark.parametrize(("chunk", "train_chunk"), [(512, 65536), (7, 10), (1, 1)])
def test_votes_are_those_of_scikit_learn_however_the_work_is_cut(k, chunk, train_chunk):
    train, test = random_features(97), random_features(40)
    labels = torch.randint(7, (97,))
    labels[:7] = torch.arange(7)
    theirs = KNeighborsClassifier(
        k,
        weights=lambda distance: np.exp((1 - distance) / 0.07),
        metric="cosine",
        algorithm="brute",
    ).fit(train.double().numpy(), labels.numpy())
    shares = theirs.predict_proba(test.double().numpy())
    ours = knn_predict(
        train, labels, test, num_classes=7, k=k, chunk=chunk, train_chunk=train_chunk
    ).numpy()
    assert ours.shape == (40, 5)
    assert (ours[:, 0] == shares.argmax(axis=1)).all()
    in_order = np.take_along_axis(shares, ours, axis=1)
    best = -np.sort(-shares, axis=1)[:, :5]
    np.testing.assert_allclose(in_order, best, atol=1e-5)


def test_a_near_neighbour_outvotes_two_far_ones():
    train = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), dim=1)
    query = F.normalize(torch.tensor([[1.0, 0.9]]), dim=1)
    labels = torch.tensor([0, 1, 1])
    # similarities 0.743 and 0.669: exp(0.0743 / 0.07) = 2.9 > 2 votes of the far ones
    assert knn_predict(train, labels, query, 2, k=3, temperature=0.07)[0].tolist() == [0, 1]
    # at a high temperature every neighbour has one vote
    assert knn_predict(train, labels, query, 2, k=3, temperature=100.0)[0].tolist() == [1, 0]


def test_nearest_neighbours_are_found_across_blocks():
    train, test = random_features(50), random_features(8)
    labels = torch.arange(50)
    similarity, found = neighbours(train, labels, test, k=4, train_chunk=6)
    expected = (test @ train.T).sort(dim=1, descending=True)
    assert torch.equal(found, expected.indices[:, :4])
    torch.testing.assert_close(similarity, expected.values[:, :4])


def test_fewer_classes_than_five_are_all_returned():
    predictions = knn_predict(random_features(9), torch.arange(9) % 3, random_features(4), 3, k=2)
    assert predictions.shape == (4, 3)


@pytest.mark.parametrize("k", [0, 10])
def test_more_neighbours_than_images_are_refused(k):
    with pytest.raises(ValueError, match=rf"k {k} is outside 1\.\.9"):
        knn_predict(random_features(9), torch.zeros(9, dtype=torch.long), random_features(1), 3, k)


def test_accuracy_counts_labels_among_the_first_predictions():
    predictions = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]])
    labels = torch.tensor([0, 0, 0, 1])
    assert top_k_accuracy(predictions, labels, 1) == 50.0
    assert top_k_accuracy(predictions, labels, 2) == 75.0
    assert top_k_accuracy(predictions, labels, 5) == 100.0
