"""All predictions of a test in one file, for programs that judge them in other ways."""

import pickle
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import DumpResults

from milan_mm.files import replacing

# Annotations, and scores of each class and pixel: a picture's would take hundreds of MB.
_LEFT_OUT = ("gt_instances", "ignored_instances", "gt_panoptic_seg", "seg_logits")


class DumpPredictions(DumpResults):
    """mmengine's `DumpResults` in the format of mmdet's `DumpDetResults`: masks as run lengths.

    The file appears whole or not at all.
    """

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        """Keep what is predicted of a batch."""
        kept = []
        for sample in predictions:
            sample = {name: part for name, part in sample.items() if name not in _LEFT_OUT}
            objects = sample.get("pred_instances")
            if objects is not None and "masks" in objects:
                from mmdet.structures.mask import encode_mask_results

                masks = encode_mask_results(objects["masks"].cpu().numpy())
                sample["pred_instances"] = dict(objects, masks=masks)
            kept.append(sample)
        super().process(data_batch, kept)

    def compute_metrics(self, results: list) -> dict:
        """Write the file."""
        with replacing(self.out_file_path) as partial, partial.open("wb") as file:
            pickle.dump(results, file)
        return {}
