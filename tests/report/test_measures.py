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


@pytest.mark.parametrize(
    ("name", "label", "unit", "shown", "lower_is_better"),
    [
        ("rmse", "RMSE", "m", "0.373", True),
        ("abs_rel", "abs rel", "", "0.373", True),
        ("silog", "scale-invariant error", "", "0.373", True),
        ("d1", "d1", "%", "37.3", False),
        ("mIoU", "mIoU", "%", "0.4", False),
        ("val_loss", "val_loss", "", "0.373", True),
    ],
)
def test_depth_has_units_and_errors_are_better_when_lower(
    name, label, unit, shown, lower_is_better
):
    measure = validation_measure(name)
    assert (measure.label, measure.unit, measure.shown(0.373)) == (label, unit, shown)
    assert measure.lower_is_better == lower_is_better
