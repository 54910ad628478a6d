"""Label maps of large pictures without the scores of every class for each of their pixels.

mmseg resizes all scores to the picture and then takes the largest: with 150 classes, 7 GB for a
photo of 12 megapixels. Here a few classes are resized at a time.
"""

from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES_AT_A_TIME = 8
LARGE = 1 << 27  # scores of a picture: 0.5 GB


def is_large(model: nn.Module, samples: list[SegDataSample]) -> bool:
    """Whether mmseg's way takes much memory, and `predict_large` can do without it."""
    if not isinstance(model, EncoderDecoder) or model.num_classes < 2 or model.out_channels < 2:
        return False
    pixels = max(sample.ori_shape[0] * sample.ori_shape[1] for sample in samples)
    return pixels * model.num_classes > LARGE


def predict_large(model: EncoderDecoder, batch: dict[str, Any]) -> list[SegDataSample]:
    """As `model.test_step`, without `seg_logits` in the samples.

    Args:
        batch: Of pictures that are not flipped.
    """
    data = model.data_preprocessor(batch, False)
    samples = data["data_samples"]
    scores = model.inference(data["inputs"], [sample.metainfo for sample in samples])
    for sample, of_picture in zip(samples, scores, strict=True):  # (C, h, w)
        left, right, top, bottom = sample.metainfo.get(
            "img_padding_size", sample.metainfo.get("padding_size", [0] * 4)
        )
        height, width = of_picture.shape[1:]
        inside = of_picture[:, top : height - bottom, left : width - right]
        labels = _labels(inside, sample.ori_shape, model.align_corners)
        sample.set_data(dict(pred_sem_seg=PixelData(data=labels[None])))
    return samples


def _labels(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """(C, h, w) scores to (H, W) int64 labels: the class with the highest score at each pixel."""
    best = scores.new_full(size, float("-inf"))
    labels = torch.zeros(size, dtype=torch.int64, device=scores.device)
    for first in range(0, len(scores), CLASSES_AT_A_TIME):
        some = scores[None, first : first + CLASSES_AT_A_TIME]
        resized = F.interpolate(some, size, mode="bilinear", align_corners=align_corners)[0]
        highest, which = resized.max(dim=0)
        better = highest > best
        best = torch.where(better, highest, best)
        labels = torch.where(better, which + first, labels)
    return labels
