"""Pictures of detections and segmentations.

The frameworks' own visualizers do not do here: mmseg's darkens pixels without a label, mmdet's
jitters its colours at random, so that legends do not fit, and covers small objects with its text.
"""

import numpy as np
import torch
from mmengine.structures import InstanceData
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

MASK_ALPHA = 0.45


def draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    classes: tuple[str, ...],
    palette: list[tuple[int, int, int]],
    zoom: int,
    min_score: float = 0.5,
) -> np.ndarray:
    """Draw boxes, masks and class names.

    Args:
        image: (H, W, 3) uint8, RGB.
        instances: mmdet's instances with `bboxes` (N, 4) in pixels, `labels` (N,), `masks`
            (N, H, W) bool, and `scores` (N,) where they are predictions.
        classes: Names by label. palette: RGB by label.
        zoom: Screen pixels per image pixel.
        min_score: Predictions with a lower score are left out.
    """
    canvas = _zoomed(image, zoom)
    if "scores" in instances:
        instances = instances[instances.scores >= min_score]
        instances = instances[instances.scores.argsort()]  # the most confident ones on top
    if len(instances) == 0:
        return canvas.permute(1, 2, 0).numpy()
    labels = [int(label) for label in instances.labels]
    colours = [palette[label] for label in labels]
    masks = torch.as_tensor(np.asarray(instances.masks), dtype=torch.bool)
    masks = masks.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
    for mask, colour in zip(masks, colours, strict=True):  # together, overlaps would be black
        canvas = draw_segmentation_masks(canvas, mask, alpha=MASK_ALPHA, colors=colour)
    boxes = torch.as_tensor(instances.bboxes).float() * zoom
    canvas = draw_bounding_boxes(
        canvas, boxes, labels=[classes[label] for label in labels], colors=colours
    )
    return canvas.permute(1, 2, 0).numpy()


def draw_labels(
    image: np.ndarray, labels: np.ndarray, palette: list[tuple[int, int, int]], zoom: int
) -> np.ndarray:
    """Lay the class colours over an image.

    Args:
        image: (H, W, 3) uint8, RGB. labels: (H, W) int, 255 = ignored and left uncoloured.
        palette: RGB by label. zoom: Screen pixels per image pixel.
    """
    canvas = _zoomed(image, zoom)
    present = [label for label in np.unique(labels) if label != 255]
    if not present:
        return canvas.permute(1, 2, 0).numpy()
    masks = torch.stack([torch.from_numpy(labels == label) for label in present])
    masks = masks.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
    colours = [tuple(palette[label]) for label in present]
    canvas = draw_segmentation_masks(canvas, masks, alpha=MASK_ALPHA, colors=colours)
    return canvas.permute(1, 2, 0).numpy()


def _zoomed(image: np.ndarray, zoom: int) -> torch.Tensor:
    canvas = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return canvas.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
