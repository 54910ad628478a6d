"""Metrics of detectors in the words of a page."""

import pytest

from milan_mm.report.measures import validation_measure


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("coco/bbox_mAP", "box AP"),
        ("coco/segm_mAP_50", "mask AP50"),
        ("coco/bbox_mAP_s", "box AP, small objects"),
        ("lvis/bbox_AP", "box AP"),
        ("lvis/segm_AP75", "mask AP75"),
        ("lvis/segm_APr", "mask AP, rare categories"),
        ("lvis/bbox_APl", "box AP, large objects"),
    ],
)
def test_ap_of_coco_and_of_lvis_is_named_in_percent(name, label):
    measure = validation_measure(name)
    assert (measure.label, measure.unit, measure.factor) == (label, "%", 100)
    assert measure.shown(-1.0) == "undefined"
