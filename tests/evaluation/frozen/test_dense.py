"""Segmentation by patches, against scikit-learn and mmseg."""

from functools import partial

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from torch.profiler import ProfilerActivity, profile

from milan_mm.evaluation.frozen import dense, dense_features
from milan_mm.evaluation.frozen import rows as rows_module
from milan_mm.evaluation.frozen.bank import Bank
from milan_mm.evaluation.frozen.dense import Areas, DenseSettings, choose, fit, hold_out_images
from milan_mm.evaluation.frozen.dense_features import Patches, Standardiser
from milan_mm.evaluation.frozen.patch_labels import shares_in_patches
from milan_mm.evaluation.frozen.patch_voting import patch_votes


def test_shares_of_classes_are_counted_in_every_patch():
    labels = np.random.default_rng(0).choice([0, 1, 2, 255], (12, 8), p=[0.2, 0.2, 0.1, 0.5])
    labels[:4, :4] = 255
    shares, is_labelled = shares_in_patches(torch.from_numpy(labels.astype(np.uint8)), 4, 3)
    patches = [labels[y : y + 4, x : x + 4].ravel() for y in (0, 4, 8) for x in (0, 4)]
    for found, labelled, patch in zip(shares, is_labelled, patches, strict=True):
        counts = [(patch == c).sum() for c in range(3)]
        np.testing.assert_allclose(found, np.array(counts) / max(1, sum(counts)))
        assert labelled == (max(counts) >= (patch == 255).sum() and sum(counts) > 0)
    assert not is_labelled[0]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("chunk", "bank_chunk"), [(1024, 262_144), (7, 10)])
def test_votes_are_those_of_scikit_learn_however_the_work_is_cut(metric, chunk, bank_chunk):
    generator = torch.Generator().manual_seed(0)
    features, queries = (torch.randn(n, 5, generator=generator) for n in (90, 20))
    shares = torch.rand(90, 4, generator=generator).softmax(dim=1)
    rows = torch.randperm(90, generator=generator)[:60]
    bank = Bank(features, shares, rows)
    votes = patch_votes(queries, bank, (1, 3, 30), metric, chunk, bank_chunk)
    judge = KNeighborsRegressor(metric=metric, algorithm="brute").fit(features[rows], shares[rows])
    for k, found in votes.items():
        theirs = judge.set_params(n_neighbors=k)
        np.testing.assert_allclose(found, theirs.predict(queries), atol=1e-5)


def test_features_are_standardised_as_by_scikit_learn():
    features = torch.randn(40, 6, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
    features[..., 2] = 1.5
    scaler = StandardScaler().fit(features[:30].flatten(0, 1).numpy())
    expected = scaler.transform(features.flatten(0, 1).numpy())
    standardise = Standardiser.of(features.flatten(0, 1), torch.arange(30 * 6))
    found = standardise(features).flatten(0, 1)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # float16
    standardise.apply_(features)
    torch.testing.assert_close(features.flatten(0, 1), found.float())


def segmented_images(count: int = 12) -> tuple[Patches, list[torch.Tensor]]:
    """Images of 4x4 patches of 2 pixels; features show the class of a patch, with noise."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 6, generator=generator) * 2
    maps, features, shares, labelled = [], [], [], []
    for _ in range(count):
        classes = torch.randint(3, (4, 4), generator=generator)
        labels = classes.repeat_interleave(2, 0).repeat_interleave(2, 1).to(torch.uint8)
        share, is_labelled = shares_in_patches(labels, 2, 3)
        maps.append(labels)
        noise = torch.randn(16, 6, generator=generator) * 1.5
        features.append((centres[classes.flatten()] + noise).half())
        shares.append(share.half())
        labelled.append(is_labelled)
    return Patches(torch.stack(features), torch.stack(shares), torch.stack(labelled)), maps


@pytest.mark.parametrize("classifier", ["knn", "logistic"])
def test_the_best_settings_on_the_images_held_out_are_chosen(classifier):
    patches, maps = segmented_images()
    learnt, held = torch.arange(8), torch.arange(8, 12)
    settings = DenseSettings(classifier, 8, ks=(1, 3, 10, 128), cs=(1e-6, 1e-2, 1.0))
    chosen, miou = choose(patches, learnt, held, [maps[i] for i in held], settings)
    options = (
        [dict(k=k, metric=m) for m in settings.metrics for k in settings.ks]
        if classifier == "knn"
        else [dict(C=c) for c in settings.cs]
    )
    found = []
    for option in options:
        areas, classify = Areas(), fit(patches, learnt, option)
        for i in held:
            scores = classify(patches.features[i]).T.reshape(1, 3, 4, 4)
            resized = torch.nn.functional.interpolate(
                scores, (8, 8), mode="bilinear", align_corners=False
            )
            areas.add(resized[0].argmax(0), maps[i], 3)
        found.append(areas.miou())
    assert miou == pytest.approx(max(found), abs=0.5)
    assert chosen == options[int(np.argmax(found))]
    assert miou > 60


def test_logistic_regression_of_patches_is_that_of_scikit_learn():
    patches, _ = segmented_images()
    features, classes = patches.features.float().flatten(0, 1), patches.shares.argmax(2).flatten()
    theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(features[:128], classes[:128])
    ours = fit(patches, torch.arange(8), dict(C=0.1))(patches.features[8:].flatten(0, 1))
    expected = theirs.predict_proba(features[128:])
    np.testing.assert_allclose(ours.softmax(dim=1), expected, atol=2e-3)


def test_miou_is_that_of_mmseg_and_lies_in_its_interval():
    generator, areas, metric = np.random.default_rng(0), Areas(), IoUMetric()
    metric.dataset_meta = dict(classes=list("abcde"))
    for _ in range(9):
        labels = generator.choice([0, 1, 2, 3, 255], (10, 12)).astype(np.uint8)
        wrong = generator.integers(0, 4, (10, 12))
        prediction = np.where(generator.random((10, 12)) < 0.6, labels % 5, wrong)
        prediction, labels = torch.from_numpy(prediction), torch.from_numpy(labels)
        areas.add(prediction, labels, 5)
        sample = dict(
            pred_sem_seg=dict(data=prediction[None]), gt_sem_seg=dict(data=labels[None].long())
        )
        metric.process({}, [sample])
    assert areas.miou() == pytest.approx(metric.evaluate(9)["mIoU"], abs=0.005)
    low, high = areas.interval()
    assert low < areas.miou() < high


@pytest.mark.parametrize("is_taken_for_others", [False, True])
def test_classes_of_a_single_image_leave_miou_inside_its_interval(is_taken_for_others):
    generator, areas = torch.Generator().manual_seed(0), Areas()
    for i in range(40):  # a rare class in each, found badly, beside five that all images show
        labels = torch.randint(0, 5, (40, 40), generator=generator)
        prediction = labels.where(torch.rand(40, 40, generator=generator) > 0.1, 0)
        labels[:10, :10] = 5 + i
        prediction[:10, :10], prediction[:3, :3] = 0, 5 + i
        if is_taken_for_others:
            prediction[20, :2] = 5 + torch.randint(0, 40, (2,), generator=generator)
        areas.add(prediction, labels, 45)
    low, high = areas.interval()
    assert low < areas.miou() < high


def test_images_are_held_out_by_the_seed():
    learnt, held = hold_out_images(50, seed=0)
    assert len(held) == 5 and sorted([*learnt.tolist(), *held.tolist()]) == list(range(50))
    assert not torch.equal(held, hold_out_images(50, seed=1)[1])
    assert len(hold_out_images(2, seed=0)[1]) == 1


@pytest.mark.parametrize("chosen", [dict(k=3, metric="cosine"), dict(C=1e-3)])
def test_patches_are_not_copied_as_a_whole(monkeypatch, chosen):
    monkeypatch.setattr(rows_module, "_ON_CPU", 0)  # as of a data set that does not fit there
    monkeypatch.setattr(rows_module, "_CHUNK_BYTES", 2**16)
    monkeypatch.setattr(dense_features, "_ROWS", 128)
    monkeypatch.setattr(dense, "patch_votes", partial(patch_votes, bank_chunk=128))
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(100, 64, 64, generator=generator).half()
    shares = torch.rand(100, 64, 2, generator=generator).softmax(dim=2).half()
    patches = Patches(features, shares, torch.rand(100, 64, generator=generator) > 0.1)
    cpu = [ProfilerActivity.CPU]
    with profile(activities=cpu, profile_memory=True, acc_events=True) as watched:
        known = patches.bank(torch.arange(90))
        Standardiser.of(known.features, known.rows)
        fit(patches, torch.arange(100), chosen)(features[:1, :8].flatten(0, 1))
    largest = max(event.self_cpu_memory_usage for event in watched.events())
    assert 0 < largest < 0.2 * features.nbytes
