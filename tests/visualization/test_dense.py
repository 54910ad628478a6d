"""Drawn detections and segmentations show what they are given."""

import numpy as np
import torch
from mmengine.structures import InstanceData

from milan_mm.visualization.dense import draw_instances, draw_labels

RED, BLUE = (255, 0, 0), (0, 0, 255)


def _instances(scores: list[float]) -> InstanceData:
    masks = np.zeros((2, 16, 16), bool)
    masks[0, 2:6, 2:6] = True
    masks[1, 10:14, 10:14] = True
    return InstanceData(
        bboxes=torch.tensor([[2.0, 2, 6, 6], [10, 10, 14, 14]]),
        labels=torch.tensor([0, 1]),
        masks=masks,
        scores=torch.tensor(scores),
    )


def test_masks_are_tinted_in_their_class_colour():
    image = np.zeros((16, 16, 3), np.uint8)
    drawn = draw_instances(image, _instances([0.9, 0.9]), ("a", "b"), [RED, BLUE], zoom=4)
    assert drawn.shape == (64, 64, 3)
    # the pixel right of the lower left corner, clear of box lines and text
    assert drawn[22, 22, 0] > 0 and drawn[22, 22, 2] == 0
    assert drawn[54, 54, 2] > 0 and drawn[54, 54, 0] == 0


def test_where_masks_overlap_the_surer_one_is_on_top():
    instances = _instances([0.9, 0.6])
    instances.masks[1] = instances.masks[0]
    image = np.zeros((16, 16, 3), np.uint8)
    drawn = draw_instances(image, instances, ("a", "b"), [RED, BLUE], zoom=4)
    assert drawn[22, 22, 0] > drawn[22, 22, 2] > 0


def test_unlikely_detections_are_left_out():
    image = np.zeros((16, 16, 3), np.uint8)
    drawn = draw_instances(image, _instances([0.9, 0.1]), ("a", "b"), [RED, BLUE], zoom=2)
    assert drawn[..., 0].any() and not drawn[24:, 24:, 2].any()


def test_no_detection_leaves_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    drawn = draw_instances(image, _instances([0.1, 0.1]), ("a", "b"), [RED, BLUE], zoom=1)
    assert (drawn == image).all()


def test_ignored_pixels_keep_the_image():
    image = np.full((4, 4, 3), 100, np.uint8)
    labels = np.full((4, 4), 255)
    labels[0] = 1
    drawn = draw_labels(image, labels, [RED, BLUE], zoom=1)
    assert (drawn[1:] == 100).all() and drawn[0, 0, 2] > drawn[0, 0, 0]


def test_an_image_without_any_label_is_drawn_too():
    image = np.full((4, 4, 3), 100, np.uint8)
    assert (draw_labels(image, np.full((4, 4), 255), [RED], zoom=1) == 100).all()
