"""COCO AP by faster-coco-eval: the numbers of pycocotools in a fraction of the time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster
from mmdet.evaluation.metrics import CocoMetric as PycocoMetric
from mmdet.evaluation.metrics import coco_metric

from milan_mm.registry import METRICS


@METRICS.register_module()
class CocoMetric(PycocoMetric):
    """mmdet's `CocoMetric`, with the same settings and keys, that matches and counts in C++.

    Two cases come out right that pycocotools gets wrong: when a detector finds nothing at all, AP
    is 0 (mmdet then reports no number), and annotations numbered from 0 count (as the id of a
    match, 0 reads as 'no match').
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        with _fast_evaluator():
            super().__init__(*args, **settings)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Box and mask AP. results: one (ground truth, prediction) per image, from `process`."""
        with _fast_evaluator():
            return super().compute_metrics(results)


class _Annotations(COCO):
    """Annotations numbered from 1."""

    def createIndex(self) -> None:
        for number, annotation in enumerate(self.dataset.get("annotations", ()), start=1):
            annotation["id"] = number
        super().createIndex()


class _Evaluation(COCOeval_faster):
    """An evaluation that prints its table and counts detections as pycocotools does."""

    def __init__(self, ground_truth: COCO, detections: COCO, iou_type: str) -> None:
        super().__init__(ground_truth, detections, iou_type, print_function=print)

    def _summarize(self, ap: int = 1, **choice: Any) -> float:
        if ap == 1 and not choice.keys() - {"maxDets"} and 100 in self.params.maxDets:
            # pycocotools takes 100 detections per image for the first number, whatever the largest
            choice["maxDets"] = 100
        return super()._summarize(ap, **choice)


@contextmanager
def _fast_evaluator() -> Iterator[None]:
    """Let mmdet's metric, which finds its evaluator by name in its module, find the fast one."""
    names = dict(COCO=_Annotations, COCOeval=_Evaluation, COCOevalMP=_Evaluation)
    before = {name: getattr(coco_metric, name) for name in names}
    try:
        vars(coco_metric).update(names)
        yield
    finally:
        vars(coco_metric).update(before)
