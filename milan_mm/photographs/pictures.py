"""Masks of MILAN and attention of all encoders, on photographs that none of them was trained on.

The figure shows photographs of ImageNet, so it stays in the folder of the results.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from milan_mm.look.attention import class_attention
from milan_mm.look.images import as_input, read_photos, square
from milan_mm.look.masks import read_pretraining
from milan_mm.look.systems import Shown, read_systems
from milan_mm.photographs.arms import TEACHERS
from milan_mm.photographs.models import num_heads
from milan_mm.visualization.panels import Bar, Frame, Panel, panel_figure
from milan_mm.visualization.pictures import enlarge
from milan_mm.visualization.pretraining import (
    BRIGHTEST,
    HIDDEN,
    PretrainingViews,
    pretraining_views,
)

NUM_PHOTOS = 6
_TEACHER = "teacher, "
CAPTION = (
    "Validation photographs of the student's classes. Probability that a patch is the first to be "
    "kept, which the teacher gives; the kept quarter of one draw; MILAN's loss of each patch; then "
    "the attention of the class token in the last block, mean over the heads, each map on its own "
    "scale with the largest share below it."
)


def pictures_figure(
    photos: Sequence[Path], checkpoint: Path | None, encoders: Mapping[str, Path]
) -> Figure:
    """Draw a row per photograph.

    Args:
        photos: Files.
        checkpoint: Of MILAN's pretraining; None leaves its columns out.
        encoders: File by title, for the columns of attention.
    """
    read = read_photos(photos, NUM_PHOTOS)
    shown = [
        read_systems([str(file)], [title], num_heads=num_heads() if is_teacher(title) else None)[0]
        for title, file in encoders.items()
    ]
    titles: list[str] = ["photo"]
    rows: list[list[Panel | None]] = [[Panel(square(photo, 128))] for photo in read]
    bars: list[Bar] = []
    if checkpoint:
        model: Any = read_pretraining(str(checkpoint)).model
        size = model.backbone.grid_size[0] * model.backbone.patch_size
        images = np.stack([square(photo, size) for photo in read])
        views = pretraining_views(model, images)
        columns, bars = _step(views)
        titles += ["chance", "kept patches", "loss per patch"]
        for row, panels in zip(rows, columns, strict=True):
            row += panels
    first = len(titles)
    titles += encoders
    for system in shown:
        for row, photo in zip(rows, read, strict=True):
            row.append(_attention(system, square(photo, _size(system))))
    if shown:
        label = "share of the class token's attention"
        last = len(titles) - 1
        bars.append(Bar(first, last, "attention", label, ends=("0", "max of each map")))
    return panel_figure(rows, Frame(titles, bars=bars, caption=CAPTION))


def _step(views: PretrainingViews) -> tuple[list[list[Panel]], list[Bar]]:
    """Three panels of each image, and their colour bars."""
    assert views.probability is not None
    percent = 100 * views.probability
    top = float(np.quantile(percent, BRIGHTEST))
    low, high = map(float, np.nanquantile(views.loss, [1 - BRIGHTEST, BRIGHTEST]))
    patch = views.images.shape[1] // views.kept.shape[2]
    panels = []
    for i, image in enumerate(views.images):
        visible = enlarge(views.kept[0, i, ..., None], patch)
        kept = np.where(visible, image, HIDDEN).astype(np.uint8)
        panels.append(
            [
                Panel(percent[i], "probability", 0, top),
                Panel(kept),
                Panel(views.loss[i], "loss", low, high),
            ]
        )
    bars = [
        Bar(1, 1, "probability", "% of the first draw", 0, top),
        Bar(3, 3, "loss", views.loss_name, low, high),
    ]
    return panels, bars


def _size(system: Shown) -> int:
    return system.vit.grid_size[0] * system.vit.patch_size


def _attention(system: Shown, image: np.ndarray) -> Panel:
    inputs = as_input(image[None], system.encoder.stats, system.device)
    heads = class_attention(system.vit, inputs, system.vit.num_layers - 1)[0]
    values = heads.mean(dim=0).cpu().numpy()
    peak = float(values.max())
    return Panel(values, "attention", 0, peak, note=f"max {100 * peak:.2g} %")


def chosen_photos(root: Path) -> list[Path]:
    """The first validation photograph of some classes of the student, evenly spread."""
    folders = sorted(path for path in (root / "student/val").iterdir() if path.is_dir())
    step = max(1, len(folders) // NUM_PHOTOS)
    return [min(folder.iterdir()) for folder in folders[::step][:NUM_PHOTOS]]


def titles_of(files: Mapping[str, Path]) -> dict[str, Path]:
    """By the short titles of columns, those that are there."""
    titles = {name: f"{_TEACHER}{name}" if name in TEACHERS else name for name in files}
    return {titles[name]: file for name, file in files.items() if file.is_file()}


def is_teacher(title: str) -> bool:
    """Whether a column is a teacher's."""
    return title.startswith(_TEACHER)
