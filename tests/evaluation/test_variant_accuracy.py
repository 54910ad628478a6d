"""Accuracy on variants of ImageNet equals what their authors' formulas give."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from timm.data import RealLabelsImagenet
from timm.utils import accuracy
from torch import Tensor

from milan_mm.datasets.variants import ALEXNET_ERRORS
from milan_mm.evaluation.variant_accuracy import VariantAccuracy


def measure(
    scores: Tensor,
    labels: list,
    paths: list[str] | None = None,
    judged: Sequence[int] = range(1000),
) -> dict:
    metric = VariantAccuracy()
    metric.dataset_meta = dict(judged=list(judged), by_corruption=paths is not None)
    samples = [
        dict(pred_score=row, gt_label=torch.tensor(label).reshape(-1), img_path=path)
        for row, label, path in zip(scores, labels, paths or [""] * len(labels), strict=True)
    ]
    metric.process(None, samples)
    return metric.compute_metrics(metric.results)


def test_only_the_classes_of_the_variant_compete():
    generator = torch.Generator().manual_seed(0)
    own = torch.randperm(1000, generator=generator)[:200].sort().values
    targets = torch.randint(len(own), (64,), generator=generator)
    scores = torch.randn(64, 1000, generator=generator)
    scores[torch.arange(64), own[targets]] += 2  # some are right
    found = measure(scores, own[targets].tolist(), judged=own.tolist())
    expected = accuracy(scores[:, own], targets, topk=(1, 5))  # timm's rule for subsets
    assert [found["top1"], found["top5"]] == pytest.approx([float(e) for e in expected])
    assert 0 < found["top1"] < found["top5"] < 100
    assert found["top1"] != float(accuracy(scores, own[targets])[0])


def test_real_counts_any_label_of_an_image():
    names = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(50_000)]
    judge = RealLabelsImagenet(names)
    labels = [judge.real_labels[name] for name in names[:200]]
    scores = torch.randn(200, 1000, generator=torch.Generator().manual_seed(1))
    for row, known in zip(scores[::2], labels[::2], strict=True):
        row[known[-1:]] += 10
    judge.add_result(scores)
    kept = [i for i, known in enumerate(labels) if known]
    found = measure(scores[kept], [sorted(labels[i]) for i in kept])
    assert [found["top1"], found["top5"]] == pytest.approx([judge.get_accuracy(k) for k in (1, 5)])


def test_the_mean_corruption_error_is_relative_to_alexnet():
    rng, guesses = np.random.default_rng(0), torch.eye(1000)[[8, 7]]
    paths, labels, scores, errors = [], [], [], {}
    for corruption, alexnet in ALEXNET_ERRORS.items():
        wrong = rng.integers(0, 5, 5)  # of 4 images at each severity
        for severity, number in enumerate(wrong, start=1):
            for image in range(4):
                paths.append(f"root/{corruption}/{severity}/n01440764/{image}.JPEG")
                labels.append(7)
                scores.append(guesses[int(image >= number)])
        errors[corruption] = wrong.sum() / 20 / alexnet
    found = measure(torch.stack(scores), labels, paths)
    assert found["mCE"] == pytest.approx(100 * np.mean(list(errors.values())))
    assert found["error[fog]"] == pytest.approx(100 * errors["fog"] * ALEXNET_ERRORS["fog"])
