"""Multi-scale, flipped testing of a segmentor, one scale at a time."""

from collections.abc import Iterable

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor

from milan_mm.registry import MODELS


@MODELS.register_module()
class MultiScaleSegmentor(BaseTTAModel):
    """Averages the class probabilities of a segmentor over all scales and flips of an image.

    The result is that of mmseg's `SegTTAModel`: the softmax of each prediction at the size of the
    ground truth, then the mean, then the likeliest class. mmseg's class keeps the scores of all
    predictions, one per class and pixel, until the last is there; this one adds them up as they
    come.
    """

    def test_step(self, data: dict[str, list]) -> list[BaseDataElement]:
        """Predict from `data`, whose values each have one entry per scale and flip."""
        num_views = len(next(iter(data.values())))
        views = ({key: value[i] for key, value in data.items()} for i in range(num_views))
        return self.merge_preds(self.module.test_step(view) for view in views)

    @torch.no_grad()
    def merge_preds(
        self, data_samples_list: Iterable[list[BaseDataElement]]
    ) -> list[BaseDataElement]:
        """Average predictions with `seg_logits` (C, H, W), read once and in order.

        Args:
            data_samples_list: For each view, the predictions of the images of a batch.

        Returns:
            The last predictions, with `pred_sem_seg` (1, H, W) of all views.
        """
        totals: list[Tensor] = []
        merged: list[BaseDataElement] = []
        for samples in data_samples_list:
            merged = list(samples)
            for i, sample in enumerate(merged):
                probabilities = sample.seg_logits.data.softmax(dim=0)
                del sample.seg_logits
                if len(totals) > i:
                    totals[i] += probabilities
                else:
                    totals.append(probabilities)
        for sample, total in zip(merged, totals, strict=True):
            sample.set_data(dict(pred_sem_seg=PixelData(data=total.argmax(dim=0, keepdim=True))))
        return merged
