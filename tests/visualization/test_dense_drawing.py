"""Drawn detections and segmentations show what they are given."""

import numpy as np

from milan_mm.visualization.drawing import blend_classes, draw_detections

RED, BLUE = (255, 0, 0), (0, 0, 255)
BOXES = np.array([[8.0, 8, 24, 24], [40, 40, 56, 56]])
BLACK = np.zeros((64, 64, 3), np.uint8)


def _masks() -> np.ndarray:
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 8:24, 8:24] = True
    masks[1, 40:56, 40:56] = True
    return masks


def _drawn(masks: np.ndarray, boxes: np.ndarray = BOXES, **settings) -> np.ndarray:
    labels = np.arange(len(boxes))
    return draw_detections(
        BLACK, boxes, labels, None, [RED, BLUE], masks=masks, enlarge=False, **settings
    )


def test_masks_are_tinted_in_their_class_colour():
    drawn = _drawn(_masks())
    assert drawn.shape == BLACK.shape
    assert drawn[16, 16, 0] > 0 and drawn[16, 16, 2] == 0
    assert drawn[48, 48, 2] > 0 and drawn[48, 48, 0] == 0


def test_where_masks_overlap_the_first_object_is_on_top():
    masks = _masks()
    masks[1] = masks[0]
    drawn = _drawn(masks)
    assert drawn[16, 16, 0] > drawn[16, 16, 2] > 0


def test_no_detection_leaves_the_image_as_it_is():
    assert (_drawn(np.zeros((0, 64, 64), bool), np.zeros((0, 4))) == BLACK).all()


def test_lines_have_the_width_that_is_asked_for():
    thin, thick = (_drawn(np.zeros((2, 64, 64), bool), line=share) for share in (1 / 32, 1 / 10))
    assert 0 < (thin.sum(axis=2) > 0).sum() < (thick.sum(axis=2) > 0).sum()


def test_ignored_pixels_keep_the_image():
    image = np.full((4, 4, 3), 100, np.uint8)
    labels = np.full((4, 4), 255)
    labels[0] = 1
    drawn = blend_classes(image, labels, [RED, BLUE])
    assert (drawn[1:] == 100).all() and drawn[0, 0, 2] > drawn[0, 0, 0]
    assert (blend_classes(image, np.full((4, 4), 255), [RED]) == 100).all()
