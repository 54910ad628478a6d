"""Precision and recall of each class; needs mmpretrain, so it is imported only where wanted."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.evaluation import SingleLabelMetric


class ClassPrecision(BaseMetric):
    """mmpretrain's measures of each class, under the names of the classes.

    Recall is the accuracy on the images of a class.
    """

    default_prefix = "single-label"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep label and likeliest label of each image."""
        for sample in data_samples:
            scores = sample["pred_score"]
            self.results.append((int(scores.argmax()), int(sample["gt_label"]), len(scores)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """'precision[NAME]', 'recall[NAME]' in %, NaN where nothing was predicted or labelled.

        Args:
            results: Predicted and true label of each image, and the number of classes.
        """
        predicted, true, number = (torch.tensor(values) for values in zip(*results, strict=True))
        total = int(number.max())
        precision, recall, _, _ = SingleLabelMetric.calculate(
            predicted, true, num_classes=total, average=None
        )
        names = list((self.dataset_meta or {}).get("classes") or [])
        names += [f"class {label}" for label in range(len(names), total)]
        precision[torch.bincount(predicted, minlength=total) == 0] = float("nan")
        recall[torch.bincount(true, minlength=total) == 0] = float("nan")
        found = dict(precision=precision.tolist(), recall=recall.tolist())
        return {
            f"{name}[{label}]": value
            for name, values in found.items()
            for label, value in zip(names, values, strict=True)
        }
