"""The confusion matrix counts as scikit-learn does, and gives mmseg's IoU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from sklearn.metrics import confusion_matrix

from milan_mm.evaluation.confusion import ConfusionMatrix

CLASSES = ["a", "b", "c", "never"]


def _counted(samples: list[dict], out: Path, parts: int = 2) -> dict:
    metric = ConfusionMatrix(out)
    metric.dataset_meta = dict(classes=CLASSES)
    for part in range(parts):
        metric.process({}, samples[part::parts])
    assert metric.evaluate(len(samples)) == {}
    return json.loads(out.read_text())


def _dense(truth: torch.Tensor, guess: torch.Tensor) -> dict:
    return dict(gt_sem_seg=dict(data=truth[None]), pred_sem_seg=dict(data=guess[None]))


def test_images_are_counted_as_scikit_learn_counts_them(tmp_path):
    truth, guess = torch.randint(0, 3, (2, 50))
    samples = [
        dict(gt_label=t[None], pred_label=g[None]) for t, g in zip(truth, guess, strict=True)
    ]
    found = _counted(samples, tmp_path / "new/confusion.json")
    assert found["matrix"] == confusion_matrix(truth, guess, labels=range(4)).tolist()
    assert (found["classes"], found["unit"]) == (CLASSES, "images")


def test_pixels_without_a_label_do_not_count_and_iou_follows(tmp_path):
    truth, guess = torch.randint(0, 3, (2, 5, 8, 8))
    truth[:, :2] = 255
    samples = [_dense(t, g) for t, g in zip(truth, guess, strict=True)]
    found = _counted(samples, tmp_path / "confusion.json")
    matrix = np.array(found["matrix"])
    assert matrix.sum() == 5 * 6 * 8 and found["unit"] == "pixels"
    counted = truth != 255
    assert (matrix == confusion_matrix(truth[counted], guess[counted], labels=range(4))).all()
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=CLASSES[:3])
    metric.process({}, samples)
    right = np.diag(matrix)[:3]
    iou = right / ((matrix.sum(0) + matrix.sum(1))[:3] - right)
    assert metric.evaluate(5)["mIoU"] == pytest.approx(iou.mean() * 100, abs=0.01)
