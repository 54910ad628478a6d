"""Protocols on frozen features, against scikit-learn, SciPy and what they say of themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression as Judge

from milan_mm.errors import UserError
from milan_mm.evaluation.frozen import rows as rows_module
from milan_mm.evaluation.frozen.choosing import POWERS, choose, predict, refit, rows_of
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.intervals import mean_interval, statistic_interval
from milan_mm.evaluation.frozen.logistic import LogisticRegression
from milan_mm.evaluation.frozen.measured import measured_hits, share_interval
from milan_mm.evaluation.frozen.neighbours import KS, ManyVotes
from milan_mm.evaluation.frozen.protocol import TrainImages
from milan_mm.evaluation.frozen.regression import (
    FewShot,
    FewShotVote,
    Regression,
    SmallShare,
)
from milan_mm.evaluation.frozen.subsets import draw, hold_out, read_list
from milan_mm.evaluation.frozen.table import PROTOCOLS
from milan_mm.evaluation.recipes import Shape
from milan_mm.evaluation.tasks import TASKS
from milan_mm.evaluation.voting import knn_predict, neighbours, votes

OURS = ("knn", "knn-grid", "logreg", "few-shot", "few-shot-knn", "low-data")  # without probes
SHAPE = Shape(12, 1, 1, 16, 32, True)


def clusters(per_class: int, num_classes: int, width: int = 12, seed: int = 0):
    """Features of overlapping classes, far from the origin and of very different spreads."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    noise = torch.randn(len(labels), width, generator=generator)
    return (centres[labels] + noise) * torch.logspace(0, -2, width) + 3, labels


def feature_set(per_class: int, num_classes: int, seed: int = 0) -> FeatureSet:
    features, labels = clusters(per_class, num_classes, seed=seed)
    names = [f"{label}/{i}.png" for i, label in enumerate(labels.tolist())]
    classes = tuple(map(str, range(num_classes)))
    return FeatureSet(features[:, None], labels, classes, names, (0,), "cls_token")


def train_images(counts: list[int]) -> TrainImages:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    names = tuple(f"{label}/{i}.png" for i, label in enumerate(labels.tolist()))
    return TrainImages("images/train", labels, tuple("abcdefgh"[: len(counts)]), names)


@pytest.mark.parametrize(("num_classes", "per_class"), [(2, 20), (4, 20), (5, 2)])
@pytest.mark.parametrize("c", [1e-6, 1e-3, 1.0, 100.0])
def test_logistic_regression_is_that_of_scikit_learn(num_classes, per_class, c):
    features, labels = clusters(per_class, num_classes)
    regression = LogisticRegression(rows_of(features, labels), num_classes)
    found = regression.fit(c, regression.fit(c / 2)).scores(features.double()).softmax(dim=1)
    judge = Judge(C=c, max_iter=1000, tol=1e-10, solver="newton-cholesky")
    expected = judge.fit(features.double(), labels).predict_proba(features.double())
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.numpy().argmax(axis=1) == expected.argmax(axis=1)).all()  # also of tiny weights


def test_features_that_are_read_in_parts_give_the_same_classifier(monkeypatch):
    features, labels = clusters(30, 4)
    index = torch.arange(0, 120, 2)
    whole = LogisticRegression(rows_of(features, labels, index), 4).fit(1.0)
    monkeypatch.setattr(rows_module, "_ON_CPU", 0)
    monkeypatch.setattr(rows_module, "_CHUNK_BYTES", 7 * 12 * 8)
    rows = rows_of(features, labels, index)
    assert rows._kept is None and len(next(iter(rows))[0]) == 7
    parts = LogisticRegression(rows, 4).fit(1.0)
    torch.testing.assert_close(parts.weight, whole.weight, atol=1e-4, rtol=1e-3)


def test_c_is_the_smallest_of_the_best_on_held_out_images_as_by_scikit_learn():
    features, labels = clusters(12, 3)
    fit, held = hold_out(labels, 0.3)
    c, classifier = choose(features, labels, 3, fit, held)
    exact = features.double().numpy()
    shares = [
        Judge(C=10**p, max_iter=3000, tol=1e-7)
        .fit(exact[fit], labels[fit])
        .score(exact[held], labels[held])
        for p in POWERS[:29:4]  # up to 10
    ]
    ours = [
        (
            LogisticRegression(rows_of(features, labels, fit), 3)
            .fit(10**p)
            .scores(features[held].double())
            .argmax(dim=1)
            == labels[held]
        )
        .double()
        .mean()
        .item()
        for p in POWERS[:29:4]
    ]
    assert ours == pytest.approx(shares)
    assert any(c == 10**p for p in POWERS)
    judge = Judge(C=c, max_iter=50_000, tol=1e-9).fit(exact, labels)
    final = refit(features, labels, 3, c, classifier)
    test, _ = clusters(50, 3, seed=1)
    found = predict(final, test, 3)[:, 0].numpy()
    assert (found == judge.predict(test.double())).mean() > 0.99


def test_many_k_in_one_pass_are_the_votes_of_each_k():
    train, val = feature_set(40, 6), feature_set(10, 6, seed=1)
    near = neighbours(train.last, train.labels, val.last, 100, normalise=True, train_chunk=37)
    found = votes(*near, 6, (1, 20, 100))
    unit = [torch.nn.functional.normalize(each.last, dim=1) for each in (train, val)]
    for k, predictions in found.items():
        alone = knn_predict(unit[0], train.labels, unit[1], 6, k=k)
        assert torch.equal(predictions[:, 0], alone[:, 0])


def test_draws_have_the_number_or_share_of_each_class_and_are_repeated_by_their_seed():
    labels = torch.tensor([0] * 50 + [1] * 200 + [2] * 3)
    fit, held = hold_out(labels, 0.01)
    assert labels[held].bincount().tolist() == [1, 2, 1]
    assert sorted([*fit.tolist(), *held.tolist()]) == list(range(253))
    drawn = draw(labels, 2, 0, fit)
    assert labels[drawn].bincount().tolist() == [2, 2, 2]
    assert not torch.isin(drawn, held).any()
    assert torch.equal(drawn, draw(labels, 2, 0, fit))
    assert not torch.equal(drawn, draw(labels, 2, 1, fit))
    for among in (None, fit):  # 10 % of the images there are, not of those left to draw from
        assert labels[draw(labels, 0.1, 0, among)].bincount().tolist() == [5, 20, 1]


def test_images_of_a_list_are_found_by_name(tmp_path):
    file = tmp_path / "1percent.txt"
    file.write_text("b_1.png\na/a_0.png\n\n")
    names = ["a/a_0.png", "a/a_1.png", "b/b_0.png", "b/b_1.png"]
    assert read_list(file, names).tolist() == [0, 3]
    for content, message in (
        ("c.png\n", "1 images that are not among the 4 training images, e.g. 'c.png'"),
        ("b_1.png\nb/b_1.png\n", "lists 2 images, of which 1 are different"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=message):
            read_list(file, names)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_list(tmp_path / "gone", names)


def test_intervals_are_those_of_scipy_and_of_the_binomial_distribution():
    generator = np.random.default_rng(0)
    outcomes = (generator.random(2000) < 0.7).astype(float)
    found = mean_interval(outcomes)
    judge = stats.bootstrap(
        (outcomes,), np.mean, n_resamples=2000, method="percentile", random_state=0
    ).confidence_interval
    exact = stats.binomtest(int(outcomes.sum()), 2000).proportion_ci(method="wilson")
    np.testing.assert_allclose(found, judge, atol=0.002)
    np.testing.assert_allclose(found, exact, atol=0.002)
    assert found == mean_interval(outcomes)
    shares = generator.integers(0, 6, 500) / 5  # of five draws
    other = statistic_interval(lambda times: times @ shares / times.sum(axis=1), 500, 4000)
    np.testing.assert_allclose(mean_interval(shares), other, atol=0.004)


@pytest.mark.parametrize("right", [0, 20])
def test_an_interval_of_equal_answers_has_a_width_which_is_that_of_wilson(right):
    expected = stats.binomtest(right, 20).proportion_ci(method="wilson")
    np.testing.assert_allclose(mean_interval(np.full(20, right / 20)), expected, atol=1e-12)
    assert share_interval(right * 5.0, 20) == pytest.approx(100 * np.array(expected), abs=1e-4)
    flat = statistic_interval(lambda times: times.sum(axis=1), 5)  # all resamples are equal
    assert flat is None


def test_an_accuracy_has_the_interval_of_its_right_answers():
    outcomes = torch.arange(300) < 200
    known = measured_hits([outcomes]).facts["interval"]
    assert list(share_interval(66.6667, 300)) == known
    assert share_interval(66.7, 300) is None  # of other images, or weighted
    assert share_interval(None, 300) is None


@pytest.mark.parametrize("name", OURS)
def test_each_protocol_gives_the_metrics_of_its_task(name):
    sets = dict(train=feature_set(40, 6), val=feature_set(10, 6, seed=1))
    protocol, taken = PROTOCOLS[name], []
    small = dict(draws=2) if hasattr(protocol, "draws") else {}
    protocol = replace(protocol, **small)
    found = protocol.measure(lambda split, pooling: sets[split], SHAPE, lambda: taken.append(1))
    assert list(found) == [metric.name for metric in TASKS[name].metrics]
    assert len(taken) == protocol.num_steps
    for each in found.values():
        low, high = each.interval
        assert low <= each.value <= high and each.value > 100 / 6
        facts = each.facts
        assert len(facts.get("draws", [0, 0])) == 2
        assert ("chosen" in facts) == ("logistic" in protocol.settings)


@pytest.mark.parametrize(
    ("protocol", "counts", "message"),
    [
        (ManyVotes(), [60, 60], "k = 200 exceeds the 120 training images in images/train"),
        (FewShot(), [20, 10], "10 images of each class .* class 'b' .* has 9 beside those"),
        (FewShotVote(), [20, 9], "10 images of each class .* class 'b' .* has 9: add"),
        (Regression(), [1, 1], "C is chosen on 10% .* has a single one"),
        (SmallShare(), [1, 1], "C is chosen on 1% .* has a single one"),
        (
            SmallShare(lists={"1 %": torch.tensor([0])}),
            [5, 5],
            "the list of 1 % has no image of class 'b'",
        ),
    ],
)
def test_a_data_set_that_cannot_serve_a_protocol_is_refused(protocol, counts, message):
    with pytest.raises(UserError, match=message):
        protocol.check(train_images(counts))
    if not getattr(protocol, "lists", None):
        protocol.check(train_images([120, 120]))


def test_a_short_protocol_leaves_out_what_few_images_cannot_serve():
    few = train_images([6, 30])
    assert ManyVotes().fitted(few).ks == KS[:4]
    assert FewShot().fitted(few).shots == (1, 2, 5)
    assert FewShotVote().fitted(few).shots == (1, 2, 5)
    for protocol in (ManyVotes(), FewShot(), FewShotVote()):
        protocol.fitted(few).check(few)


def test_lists_take_the_place_of_the_draws(tmp_path):
    train = train_images([500, 500])
    for name, step in (("one.txt", 100), ("ten.txt", 10)):
        (tmp_path / name).write_text("\n".join(train.names[::step]))
    protocol = SmallShare().of_lists([tmp_path / "ten.txt", tmp_path / "one.txt"], train)
    assert {name: len(numbers) for name, numbers in protocol.lists.items()} == {
        "10 %": 100,
        "1 %": 10,
    }
    assert protocol.settings != SmallShare().settings
    (tmp_path / "half.txt").write_text("\n".join(train.names[::2]))
    with pytest.raises(UserError, match="lists 50 % of the 1000 training images: give one list"):
        SmallShare().of_lists([tmp_path / "half.txt"], train)
