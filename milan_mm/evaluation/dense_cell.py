"""The cell of a protocol that classifies frozen patches of images with label maps."""

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import torch

from milan_mm.evaluation.cells import EvaluationCell
from milan_mm.evaluation.encoders import load_frozen_encoder
from milan_mm.evaluation.features import find_device
from milan_mm.evaluation.frozen.dense import DenseSettings, segment
from milan_mm.evaluation.frozen.dense_features import PatchEncoder, read_pairs
from milan_mm.evaluation.frozen.measured import Measured
from milan_mm.weights.recognising import read_encoder


@dataclass(frozen=True, kw_only=True)
class DenseCell(EvaluationCell):
    """Segmentation by k nearest neighbours or by logistic regression, which trains no encoder.

    Attributes:
        settings: Of the protocol.
        datasets: Configs of mmseg's data sets by split. num_classes: Of their labels.
    """

    settings: DenseSettings
    datasets: dict[str, dict[str, Any]]
    num_classes: int

    @property
    def job(self) -> None:
        """There is no training."""

    def rows(self) -> list[dict]:
        """Encode the images, classify their patches and judge the maps; see `GridCell`."""
        read, amp = self.candidate.read, torch.cuda.is_available()
        vit, _ = load_frozen_encoder(read_encoder(read.source, **read.options))
        encoder = PatchEncoder(
            vit.to(find_device()),
            read.stats,
            amp=amp,
            num_workers=min(8, os.cpu_count() or 1),
        )
        train, val = (
            read_pairs(self.datasets[split], self.num_classes, self.settings.img_size)
            for split in ("train", "val")
        )
        found = segment(encoder, train, val, self.num_classes, self.settings, self.seed)
        del vit, encoder
        torch.cuda.empty_cache()  # trainings come next, in processes of their own
        value, measured = found.areas.miou(), Measured(None, chosen=found.settings)
        if not math.isnan(value):  # of validation images without any label
            measured = replace(measured, value=value, interval=found.areas.interval())
        (row,) = self._rows({"mIoU": None}, "bfloat16" if amp else "float32", None)
        return [row | measured.facts]
