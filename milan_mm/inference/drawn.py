"""A model's answer, or the truth, drawn on its picture in the colours of its classes."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from milan_mm.files import replacing
from milan_mm.inference.classes import Classes
from milan_mm.visualization.drawing import draw_detections, draw_ranking
from milan_mm.visualization.label_overlay import draw_classes
from milan_mm.visualization.style import colour_map

TOP = 5  # labels of a classifier that are shown
_JPEG: dict[str, Any] = dict(quality=92, subsampling=0)  # letters keep their colours


def drawn(
    task: str, image: np.ndarray, found: Any, classes: Classes, score_thr: float = 0.3
) -> np.ndarray:
    """A picture of what was found in an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        found: See `milan_mm.inference.predicting.Prediction`.
        score_thr: Objects with a lower score are left out.
    """
    if task == "seg":
        return draw_classes(image, found, classes.names, classes.colours)
    if task == "depth":
        return np.hstack([image, depth_colours(found)])
    if task == "cls":
        return draw_ranking(image, [(classes.names[i], float(found[i])) for i in ranking(found)])
    shown = np.ones(len(found.boxes), bool) if found.scores is None else found.scores >= score_thr
    return draw_detections(
        image,
        found.boxes[shown],
        found.labels[shown],
        classes.names,
        classes.colours,
        None if found.scores is None else found.scores[shown],
        None if found.masks is None else found.masks[shown],
    )


def depth_colours(depth: np.ndarray) -> np.ndarray:
    """Depths (H, W) in metres as colours (H, W, 3) uint8, the farthest brightest; grey without."""
    shown = np.where(depth > 0, depth / max(float(depth.max()), 1e-6), np.nan)
    return (colour_map("depth")(shown)[..., :3] * 255).astype(np.uint8)


def ranking(scores: np.ndarray) -> list[int]:
    """The likeliest labels of (C,) probabilities, at most `TOP`."""
    return (-scores).argsort(kind="stable")[:TOP].tolist()


def save_jpeg(path: Path, picture: np.ndarray) -> None:
    """Write a picture, whole or not at all."""
    save_pixels(path, picture, "JPEG", **_JPEG)


def save_pixels(path: Path, pixels: np.ndarray, kind: str, **settings: Any) -> None:
    """Write an array as an image file of Pillow's kind, whole or not at all."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, kind, **settings)
    with replacing(path, durable=False) as partial:
        partial.write_bytes(content.getvalue())
