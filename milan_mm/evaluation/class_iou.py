"""IoU and accuracy of each class; needs mmseg, so it is imported only where they are wanted."""

from typing import Any

import torch
from mmseg.evaluation import IoUMetric


class ClassIoU(IoUMetric):
    """mmseg's metric, which prints the numbers of each class, with them among its results."""

    def compute_metrics(self, results: list) -> dict[str, Any]:
        """Also 'IoU[NAME]' and 'Acc[NAME]' in %, NaN for a class that neither side has.

        Args:
            results: Of each image, pixels by class: those that agree, those of either side, those
                predicted, those labelled.
        """
        metrics = super().compute_metrics(results)
        both, either, _, labelled = (torch.stack(parts).sum(0) for parts in zip(*results))  # noqa: B905
        found = dict(IoU=100 * both / either, Acc=100 * both / labelled)
        for name, values in found.items():
            pairs = zip(self.dataset_meta["classes"], values.tolist(), strict=True)
            metrics |= {f"{name}[{label}]": value for label, value in pairs}
        return metrics
