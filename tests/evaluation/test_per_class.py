"""Numbers of each class are those of pycocotools, mmseg and a count by hand."""

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmseg.evaluation import IoUMetric

from milan_mm.errors import UserError
from milan_mm.evaluation.class_iou import ClassIoU
from milan_mm.evaluation.class_precision import ClassPrecision
from milan_mm.evaluation.coco_metric import CocoMetric
from milan_mm.evaluation.dumping import DumpPredictions
from milan_mm.evaluation.iou_interval import IoUInterval, report_interval
from milan_mm.evaluation.per_class import class_table, split_classes
from tests.evaluation.test_coco_metric import CLASSES, ground_truth, predictions, write


def measured(metric, samples: list[dict], classes: tuple[str, ...]) -> dict[str, float]:
    """By a metric, as a test calls it."""
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = dict(classes=classes)
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_ap_of_each_class_is_mmdets_for_boxes_and_for_masks(tmp_path):
    from mmdet.evaluation.metrics import CocoMetric as Pycoco

    content = ground_truth(5, crowds=True)
    path, samples = write(content, tmp_path), predictions(content, extra=3)
    metric = CocoMetric(ann_file=path, metric=["bbox", "segm"])
    metric.per_class = True
    found = measured(metric, samples, CLASSES)
    for kind in ("bbox", "segm"):
        judge = Pycoco(ann_file=path, metric=kind, classwise=True)
        expected = measured(judge, samples, CLASSES)
        for name in CLASSES:
            ours, theirs = found[f"coco/{kind}_mAP[{name}]"], expected[f"coco/{name}_precision"]
            assert ours == pytest.approx(theirs, abs=6e-4) and 0 < ours < 1
    plain = measured(CocoMetric(ann_file=path, metric=["bbox", "segm"]), samples, CLASSES)
    assert plain == split_classes(found)[0]


def test_ap_has_the_name_of_its_class_in_files_that_are_not_sorted_by_id(tmp_path):
    content = ground_truth(5, crowds=True)
    samples = predictions(content, extra=3)
    found = []
    for classes in (CLASSES, CLASSES[::-1]):
        metric = CocoMetric(ann_file=write(content, tmp_path), metric="bbox")
        metric.per_class = True
        found.append(measured(metric, samples, classes))
        content["categories"].reverse()
        for sample in samples:  # mmdet numbers classes in the order of the file
            labels = sample["pred_instances"]["labels"]
            sample["pred_instances"]["labels"] = len(CLASSES) - 1 - labels
    assert found[0] == found[1]


def test_iou_of_each_class_is_a_count_of_pixels():
    true = torch.tensor([[0, 0, 1, 1], [0, 255, 1, 3]])
    predicted = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 3]])
    sample = dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=true[None]))
    found = measured(ClassIoU(), [sample], ("a", "b", "c", "d"))
    values = [found[f"IoU[{name}]"] for name in "abcd"]
    np.testing.assert_allclose(values, [50, 50, math.nan, 100])
    assert found["Acc[a]"] == pytest.approx(200 / 3)
    assert found["mIoU"] == pytest.approx(np.nanmean(values), abs=0.01)


def test_a_test_of_segmentation_has_the_interval_of_its_miou_and_others_refuse_it():
    generator, samples = torch.Generator().manual_seed(0), []
    for _ in range(9):
        true = torch.randint(0, 4, (1, 8, 8), generator=generator)
        is_right = torch.rand(1, 8, 8, generator=generator) < 0.7
        samples.append(
            dict(
                pred_sem_seg=dict(data=true.where(is_right, 0)),
                gt_sem_seg=dict(data=true.where(torch.rand(1, 8, 8) < 0.9, 255)),
            )
        )
    judge = ClassIoU()  # with --classwise
    judge.dataset_meta = dict(classes=tuple("abcd"))
    runner = SimpleNamespace(test_evaluator=SimpleNamespace(metrics=[judge]))
    report_interval(runner)
    found = [measured(metric, samples, tuple("abcd")) for metric in runner.test_evaluator.metrics]
    assert found[1]["mIoU_low"] < found[0]["mIoU"] < found[1]["mIoU_high"]
    alike = measured(IoUInterval(judge), samples[:1] * 3, tuple("abcd"))
    assert alike == {}
    for other in (CocoMetric(metric="bbox"), IoUMetric(iou_metrics=["mDice"])):
        runner.test_evaluator.metrics = [other]
        with pytest.raises(UserError, match=r"--interval is for mIoU, .* (Coco|IoU)Metric: "):
            report_interval(runner)
    runner.test_evaluator.metrics = [IoUMetric(nan_to_num=0)]
    with pytest.raises(UserError, match="nan_to_num is 0, which counts them: leave out one"):
        report_interval(runner)


def test_an_interval_is_of_the_pixels_that_the_metric_counts():
    true = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    samples = [
        dict(
            pred_sem_seg=dict(data=true.where(torch.arange(4) < wrong, 0)[None]),
            gt_sem_seg=dict(data=true[None]),
        )
        for wrong in (1, 2, 3, 4, 4, 4)
    ]
    judge = IoUMetric(ignore_index=2, prefix="maps")  # of a user's own config
    judge.dataset_meta = dict(classes=tuple("abc"))
    runner = SimpleNamespace(test_evaluator=SimpleNamespace(metrics=[judge]))
    report_interval(runner)
    value, ends = (measured(m, samples, tuple("abc")) for m in runner.test_evaluator.metrics)
    assert ends["maps/mIoU_low"] < value["maps/mIoU"] < ends["maps/mIoU_high"]


def test_precision_and_recall_of_each_class_are_counts_of_images():
    true, predicted = [0, 0, 0, 1, 2], [0, 0, 1, 1, 1]
    scores = torch.eye(4)[predicted]
    samples = [
        dict(pred_score=s, gt_label=torch.tensor([t])) for s, t in zip(scores, true, strict=True)
    ]
    found = measured(ClassPrecision(), samples, ("a", "b", "c", "d"))
    recall = [found[f"single-label/recall[{name}]"] for name in "abcd"]
    precision = [found[f"single-label/precision[{name}]"] for name in "abcd"]
    np.testing.assert_allclose(recall, [200 / 3, 100, 0, math.nan], rtol=1e-5)
    np.testing.assert_allclose(precision, [100, 100 / 3, math.nan, math.nan], rtol=1e-5)


def test_a_table_has_a_row_for_each_class_and_no_number_where_there_is_none():
    metrics = {"mIoU": 50.0, "IoU[a]": 50.0, "Acc[a]": 66.66667, "IoU[b [x]]": math.nan}
    means, classes = split_classes(metrics)
    assert means == {"mIoU": 50.0} and list(classes) == ["a", "b [x]"]
    lines = [line.split() for line in class_table(classes).splitlines()]
    assert lines == [["class", "IoU", "Acc"], ["a", "50", "66.67"], ["b", "[x]", "-", "-"]]


def test_a_dump_of_predictions_is_whole_or_not_there(tmp_path, monkeypatch):
    path = str(tmp_path / "new/predictions.pkl")
    sample = dict(img_id=7, pred_label=torch.tensor([1]), gt_instances=dict(x=1))
    measured(DumpPredictions(path), [sample], ("a", "b"))
    (found,) = pickle.loads((tmp_path / "new/predictions.pkl").read_bytes())
    assert found["img_id"] == 7 and "gt_instances" not in found
    before = (tmp_path / "new/predictions.pkl").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("milan_mm.evaluation.dumping.pickle.dump", fail)
    with pytest.raises(OSError, match="No space left"):
        measured(DumpPredictions(path), [sample], ("a", "b"))
    assert (tmp_path / "new/predictions.pkl").read_bytes() == before
    assert len(list((tmp_path / "new").iterdir())) == 1
