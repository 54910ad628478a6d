"""Which classes are taken for which: a metric of classification and segmentation that counts.

`tools/test.py --classwise` adds it to the metrics of a config; `tools/report.py --html` shows it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from milan_mm.files import replacing

FILE = "confusion.json"


class ConfusionMatrix(BaseMetric):
    """Counts images (classification) or pixels (segmentation) by their true and predicted class.

    It measures nothing itself, so it adds no number to the log.

    Args:
        out: JSON file that is written, with `classes`, `unit` ('images' or 'pixels') and `matrix`:
            rows are true classes, columns predicted ones.
        ignore_index: Label of pixels that do not count.
    """

    default_prefix = "confusion"

    def __init__(self, out: str | Path, ignore_index: int = 255) -> None:
        super().__init__()
        self.out = Path(out)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch; of an image only the pairs that occur are kept."""
        for sample in data_samples:
            is_dense = "pred_sem_seg" in sample
            truth, guess = (
                np.asarray(sample[name]["data"].cpu() if is_dense else sample[name].cpu()).ravel()
                for name in (
                    ("gt_sem_seg", "pred_sem_seg") if is_dense else ("gt_label", "pred_label")
                )
            )
            counts = truth != self.ignore_index if is_dense else np.ones(len(truth), bool)
            pairs, times = np.unique(
                np.stack([truth[counts], guess[counts]]), axis=1, return_counts=True
            )
            self.results.append((pairs.astype(np.int64), times, is_dense))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add up and write the file; returns nothing."""
        classes = list((self.dataset_meta or {}).get("classes") or [])
        largest = max((int(pairs.max()) for pairs, *_ in results if pairs.size), default=-1)
        number = max(len(classes), largest + 1)
        matrix = np.zeros((number, number), np.int64)
        for (truth, guess), times, _ in results:
            np.add.at(matrix, (truth, guess), times)
        names = [str(name) for name in classes] + [str(i) for i in range(len(classes), number)]
        dense = any(is_dense for *_, is_dense in results)
        content = dict(classes=names, unit="pixels" if dense else "images", matrix=matrix.tolist())
        with replacing(self.out) as partial:
            partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
        print_log(f"confusion matrix: {self.out}", "current")
        return {}
