"""Accuracy on a variant of ImageNet: only its own classes compete.

Sources: ImageNet-A and -R restrict the logits to their 200 classes (github.com/hendrycks); ReaL
counts a guess that is one of the image's labels (arXiv 2006.07159); ImageNet-C averages its errors
over severities and divides them by AlexNet's (arXiv 1903.12261).
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from milan_mm.datasets.variants import ALEXNET_ERRORS
from milan_mm.registry import METRICS

TOP = (1, 5)


@METRICS.register_module()
class VariantAccuracy(BaseMetric):
    """Top-1 and top-5 in %, and the mean corruption error of ImageNet-C.

    The data set's metainfo says which classes compete (`judged`), and whether the images are
    corrupted ones (`by_corruption`).
    """

    default_prefix = "variant"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep of each image whether its first and its first five guesses have a label of it."""
        judged = torch.tensor(self.dataset_meta["judged"])
        for sample in data_samples:
            scores = sample["pred_score"].cpu()[judged]
            guesses = judged[scores.topk(max(TOP)).indices]
            hits = torch.isin(guesses, sample["gt_label"].cpu())
            self.results.append((sample.get("img_path", ""), [bool(hits[:k].any()) for k in TOP]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """'top1' and 'top5' in %; of ImageNet-C also 'mCE', and the error of each corruption."""
        found = {f"top{k}": 100 * mean(hits[i] for _, hits in results) for i, k in enumerate(TOP)}
        if not self.dataset_meta["by_corruption"]:
            return found
        errors: dict[str, list[float]] = defaultdict(list)
        for path, hits in results:
            errors[Path(path).parts[-4]].append(100.0 * (not hits[0]))
        by_corruption = {name: mean(errors[name]) for name in ALEXNET_ERRORS}
        relative = [by_corruption[name] / alexnet for name, alexnet in ALEXNET_ERRORS.items()]
        found["mCE"] = mean(relative)
        return found | {f"error[{name}]": value for name, value in by_corruption.items()}
