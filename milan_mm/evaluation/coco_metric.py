"""COCO AP by faster-coco-eval: the numbers of pycocotools in a fraction of the time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster
from mmdet.evaluation.metrics import CocoMetric as PycocoMetric
from mmdet.evaluation.metrics import coco_metric

from milan_mm.datasets.coco.faults import is_polygon
from milan_mm.datasets.coco.reading import take_coco
from milan_mm.registry import METRICS


@METRICS.register_module()
class CocoMetric(PycocoMetric):
    """mmdet's `CocoMetric`, with the same settings and keys, that matches and counts in C++.

    It corrects two cases of pycocotools: when a detector finds nothing at all, AP is 0 (mmdet then
    reports no number), and an annotation with id 0 counts (there, a match with 0 reads as none).

    Attributes:
        per_class: Whether AP of each class is reported too, as 'bbox_mAP[NAME]'; mmdet's own
            `classwise` rounds, and has one name for boxes and masks.
    """

    per_class = False
    _lvis = False  # the rules of LVIS, see `LVISMetric`

    def __init__(self, *args: Any, **settings: Any) -> None:
        with _fast_evaluator(self._lvis):
            super().__init__(*args, **settings)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Box and mask AP. results: one (ground truth, prediction) per image, from `process`."""
        with _fast_evaluator(self._lvis) as made:
            metrics = super().compute_metrics(results)
        for evaluation in made if self.per_class else ():
            metrics |= self._per_class(evaluation)
        return metrics | self._others(made)

    def _others(self, made: list["_Evaluation"]) -> dict[str, float]:
        """Further metrics of the evaluations that were made."""
        return {}

    def _per_class(self, evaluation: "_Evaluation") -> dict[str, float]:
        """AP by class name, NaN for a class without objects."""
        kind = evaluation.params.iouType
        precision = evaluation.eval["precision"]  # (IoU, recall, class, area, number of boxes)
        found = {}
        sorted_ids = [int(number) for number in evaluation.params.catIds]  # files need not be
        for name, number in zip(self.dataset_meta["classes"], self.cat_ids, strict=True):
            values = precision[:, :, sorted_ids.index(number), 0, -1]
            values = values[values > -1]
            found[f"{kind}_mAP[{name}]"] = float(values.mean()) if values.size else float("nan")
        return found


@METRICS.register_module()
class LVISMetric(CocoMetric):
    """AP of LVIS v1 without the package `lvis`, which mmdet's `LVISMetric` needs.

    An image counts for those categories that it was checked for: objects of others are neither
    right nor wrong, and of some not all are annotated. The keys are 'bbox_AP', 'bbox_APr',
    'bbox_APc' and 'bbox_APf' (rare, common and frequent categories), 'segm_AP' and so on, from 0 to
    1, not rounded; -1 where no category has an object. The 300 best detections of an image count.

    Args:
        proposal_nums: Detections per image; the largest counts.
    """

    default_prefix = "lvis"
    _lvis = True

    def __init__(
        self, *args: Any, proposal_nums: tuple[int, int, int] = (1, 10, 300), **settings: Any
    ) -> None:
        super().__init__(*args, proposal_nums=proposal_nums, **settings)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Box and mask AP. results: one (ground truth, prediction) per image, from `process`."""
        best = [(truth, _best(found, max(self.proposal_nums))) for truth, found in results]
        metrics = super().compute_metrics(best)
        return {name: value for name, value in metrics.items() if "_mAP" not in name or "[" in name}

    def _others(self, made: list["_Evaluation"]) -> dict[str, float]:
        found = {}
        for evaluation in made:
            values = evaluation.stats_as_dict
            for name, key in _LVIS_KEYS.items():
                found[f"{evaluation.params.iouType}_{name}"] = float(values[key])
        return found


# mmdet's names -> those of faster-coco-eval
_LVIS_KEYS = dict(
    AP="AP_all",
    AP50="AP_50",
    AP75="AP_75",
    APs="AP_small",
    APm="AP_medium",
    APl="AP_large",
    APr="APr",
    APc="APc",
    APf="APf",
)


def _best(found: dict, count: int) -> dict:
    """The detections of an image with the highest scores."""
    scores = found["scores"]
    if len(scores) <= count:
        return found
    kept = sorted(range(len(scores)), key=lambda i: -scores[i])[:count]
    return {
        name: [value[i] for i in kept]
        if name == "masks"
        else value[kept]
        if name in ("bboxes", "labels", "scores", "mask_scores")
        else value
        for name, value in found.items()
    }


class _Annotations(COCO):
    """An annotation file as the data set reads it, with annotations numbered from 1.

    Parts of masks that are not polygons are left out, as mmdet's `LoadAnnotations` does.
    """

    def __init__(self, path: str) -> None:
        file = take_coco(Path(path), with_annotations=False)
        annotations = [
            annotation | _plain(annotation, number) | _sound_parts(annotation)
            for number, annotation in enumerate(file.annotations, start=1)
        ]
        super().__init__(
            dict(images=file.images, annotations=annotations, categories=file.categories)
        )


def _plain(annotation: dict, number: int) -> dict:
    """Flags as numbers, which the evaluation needs; a file may have none, or null."""
    return dict(id=number, iscrowd=int(bool(annotation.get("iscrowd"))))


def _sound_parts(annotation: dict) -> dict:
    """The segmentation without such parts; nothing where there are none, or nothing else."""
    mask = annotation.get("segmentation")
    if not isinstance(mask, list):
        return {}
    parts = [part for part in mask if is_polygon(part)]
    return dict(segmentation=parts) if 0 < len(parts) < len(mask) else {}


class _Evaluation(COCOeval_faster):
    """An evaluation that prints its table and counts detections as pycocotools does.

    `_summarize` is private. Without overriding it the table would be printed with a first number
    of another kind than the one reported; tests compare all twelve with pycocotools.
    """

    def __init__(
        self, ground_truth: COCO, detections: COCO, iou_type: str, lvis_style: bool
    ) -> None:
        super().__init__(
            ground_truth, detections, iou_type, print_function=print, lvis_style=lvis_style
        )

    def _summarize(self, ap: int = 1, **choice: Any) -> float:
        if ap == 1 and not choice.keys() - {"maxDets"} and 100 in self.params.maxDets:
            # pycocotools takes 100 detections per image for the first number, whatever the largest
            choice["maxDets"] = 100
        return super()._summarize(ap, **choice)


def _keep_judged(ground_truth: COCO, detections: COCO) -> None:
    """Leave out, in place, detections that neither count as right nor as wrong in lvis-api.

    Those of categories that the image was not checked for: faster-coco-eval ignores them too, but
    fails on the masks of an image that has nothing else. And empty masks and boxes, which it counts
    as wrong.
    """
    judged = {(a["image_id"], a["category_id"]) for a in ground_truth.dataset["annotations"]}
    for image in ground_truth.dataset["images"]:
        judged |= {(image["id"], number) for number in image["neg_category_ids"]}
    detections.dataset["annotations"] = [
        found
        for found in detections.dataset["annotations"]
        if (found["image_id"], found["category_id"]) in judged and found["area"] > 0
    ]
    detections.createIndex()


@contextmanager
def _fast_evaluator(lvis_style: bool = False) -> Iterator[list["_Evaluation"]]:
    """Let mmdet's metric, which finds its evaluator by name in its module, find the fast one.

    The names are swapped while one call runs, so two threads must not evaluate at the same time;
    mmengine evaluates in the main thread. The other way, an evaluation of our own, would repeat
    150 lines of `compute_metrics`: numbers per class, proposals, the choice of items and the files
    for a server.

    Args:
        lvis_style: By the rules of LVIS.

    Yields:
        The evaluations that it makes.
    """
    made: list[_Evaluation] = []

    def make(ground_truth: COCO, detections: COCO, iou_type: str) -> _Evaluation:
        if lvis_style:
            _keep_judged(ground_truth, detections)
        made.append(_Evaluation(ground_truth, detections, iou_type, lvis_style))
        return made[-1]

    names = dict(COCO=_Annotations, COCOeval=make, COCOevalMP=make)
    before = {name: getattr(coco_metric, name) for name in names}
    try:
        vars(coco_metric).update(names)
        yield made
    finally:
        vars(coco_metric).update(before)
