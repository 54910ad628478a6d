"""What figures ask of drawn detections and segmentations: lines for print, blends that show."""

import numpy as np

from milan_mm.visualization.drawing import blend_classes, draw_detections

BLACK = np.zeros((64, 64, 3), np.uint8)
RED = (255, 0, 0)


def test_lines_have_the_width_that_is_asked_for():
    box = np.array([[8.0, 8, 40, 40]])
    thin, thick = (
        draw_detections(BLACK, box, np.array([0]), None, [RED], line=share, enlarge=False)
        for share in (1 / 32, 1 / 10)
    )
    assert thin.shape == BLACK.shape
    assert 0 < thin.any(axis=2).sum() < thick.any(axis=2).sum()


def test_colours_have_the_share_that_is_asked_for():
    labels = np.array([[0, 255]]).repeat(32, axis=1).repeat(64, axis=0)
    drawn = blend_classes(BLACK, labels, [RED], share=0.8)
    assert (drawn[:, :32] == (204, 0, 0)).all() and (drawn[:, 32:] == 0).all()
