"""What figures ask of drawn detections: lines for print."""

import numpy as np

from milan_mm.visualization.drawing import draw_detections

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
