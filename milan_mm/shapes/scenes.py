"""The "shapes" scenes of the demo: textured objects on a textured background, with captions.

One seed gives one scene: image, visible object masks, semantic labels and a caption over a closed
vocabulary. Needs only numpy and OpenCV; `milan_mm.shapes.files` writes scenes to disk.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from milan_mm.errors import UserError
from milan_mm.shapes.captions import COLOURS, SHAPES, SIZES, STUFF, TEXTURES, SceneObject, describe

# Semantic labels as in ADE20K: 0 is "other" (the clutter), then the classes from 1.
SEMANTIC_CLASSES = STUFF + SHAPES
# The written detection and segmentation labels name objects by size. Six shapes are more than
# minutes of CPU training can distinguish: no encoder would look better than another.
DENSE_CLASSES = STUFF + SIZES

# HSV ranges: hue in degrees (may pass 360), saturation and value in 0-1.
_COLOUR_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((350, 366), (0.75, 1.0), (0.7, 0.95)),
    "orange": ((20, 34), (0.8, 1.0), (0.85, 1.0)),
    "yellow": ((50, 62), (0.7, 1.0), (0.85, 1.0)),
    "green": ((95, 145), (0.65, 1.0), (0.45, 0.8)),
    "blue": ((210, 240), (0.7, 1.0), (0.6, 0.95)),
    "purple": ((270, 305), (0.5, 0.9), (0.5, 0.85)),
    "white": ((0, 360), (0.0, 0.08), (0.9, 1.0)),
    "black": ((0, 360), (0.0, 0.3), (0.06, 0.2)),
}
_STUFF_RANGES = {
    "sand": ((25, 55), (0.2, 0.5), (0.6, 0.85)),
    "grass": ((65, 130), (0.3, 0.65), (0.35, 0.65)),
    "water": ((175, 235), (0.25, 0.6), (0.45, 0.75)),
}
_DIAMETERS = {"small": (16, 22), "large": (30, 40)}  # pixels in a scene of 96 pixels
_MIN_VISIBLE = 0.6  # share of an object's area that must stay uncovered


@dataclass
class Scene:
    """One rendered scene.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) uint8, 0 = other, then `SEMANTIC_CLASSES` from 1.
        objects: in drawing order, the last one lies on top.
    """

    image: np.ndarray
    labels: np.ndarray
    objects: list[SceneObject]
    stuff: str
    caption: str

    @property
    def largest(self) -> SceneObject:
        """The object with the most visible pixels."""
        return max(self.objects, key=lambda obj: int(obj.mask.sum()))


def render_scene(seed: int, size: int = 96, num_objects: tuple[int, int] = (2, 5)) -> Scene:
    """Render one scene; equal arguments give equal bytes.

    Args:
        seed: >= 0, any size.
        size: side of the square image in pixels; objects scale with it.
        num_objects: smallest and largest number of objects, both included.

    Raises:
        UserError: size below 48 pixels, or num_objects outside 1..8 or empty.
    """
    if size < 48:
        raise UserError(
            f"scene size {size} px is below 48 px; objects would vanish, use 48 or more"
        )
    low, high = num_objects
    if not 1 <= low <= high <= 8:
        raise UserError(f"num_objects {num_objects} is not inside 1..8; use for example (2, 5)")
    rng = np.random.default_rng(seed)
    scale = size / 96
    stuff = STUFF[rng.integers(len(STUFF))]
    image = _background(rng, stuff, size, scale)
    owner = np.zeros((size, size), np.uint8)  # 0 = background, i = i-th object, 255 = clutter
    _draw_clutter(rng, image, owner, scale)
    objects = _draw_objects(rng, image, owner, int(rng.integers(low, high + 1)), scale)

    labels = np.where(owner == 255, 0, 1 + STUFF.index(stuff)).astype(np.uint8)
    for index, obj in enumerate(objects, start=1):
        obj.mask = owner == index
        rows, cols = np.flatnonzero(obj.mask.any(1)), np.flatnonzero(obj.mask.any(0))
        top, left = int(rows[0]), int(cols[0])
        obj.bbox = (left, top, int(cols[-1]) - left + 1, int(rows[-1]) - top + 1)
        labels[obj.mask] = 1 + SEMANTIC_CLASSES.index(obj.shape)
    _light_and_noise(rng, image)
    caption = describe(objects, stuff, rng)
    return Scene(image.clip(0, 255).astype(np.uint8), labels, objects, stuff, caption)


def dense_labels(scene: Scene) -> np.ndarray:
    """(H, W) uint8, 0 = other, then `DENSE_CLASSES` from 1."""
    labels = scene.labels.copy()
    for obj in scene.objects:
        labels[obj.mask] = 1 + DENSE_CLASSES.index(obj.size)
    return labels


def _rgb(rng: np.random.Generator, ranges: Sequence[tuple[float, float]]) -> np.ndarray:
    """Draw one colour. Returns: (3,) float32, 0-255."""
    hue, saturation, value = (rng.uniform(*bounds) for bounds in ranges)
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32) * 255


def _noise(rng: np.random.Generator, size: int, sigma_x: float, sigma_y: float) -> np.ndarray:
    """Blurred white noise. Returns: (size, size) float32, mean 0, standard deviation 1."""
    noise = cv2.GaussianBlur(
        rng.standard_normal((size, size), dtype=np.float32), (0, 0), sigma_x, sigmaY=sigma_y
    )
    return (noise - noise.mean()) / noise.std()


def _background(rng: np.random.Generator, stuff: str, size: int, scale: float) -> np.ndarray:
    """Paint sand (grains), grass (upright blades) or water (waves): (H, W, 3) float32, 0-255."""
    if stuff == "sand":
        texture = _noise(rng, size, 0.8 * scale, 0.8 * scale)
    elif stuff == "grass":
        texture = _noise(rng, size, 0.7 * scale, 3.0 * scale)
    else:
        rows = np.arange(size, dtype=np.float32)[:, None]
        bend = _noise(rng, size, 9 * scale, 6 * scale)
        period = rng.uniform(6, 9) * scale
        texture = 1.2 * np.sin(2 * np.pi * rows / period + 1.5 * bend) + rng.standard_normal(
            (size, size), dtype=np.float32
        ) * np.float32(0.3)
    strength = rng.uniform(0.09, 0.16)
    # A second colour of the same kind drifts slowly over the image, so that hue alone is no key.
    blend = (0.5 + 0.5 * np.tanh(_noise(rng, size, 16 * scale, 16 * scale)))[..., None]
    first, second = (_rgb(rng, _STUFF_RANGES[stuff]) for _ in range(2))
    return (first + (second - first) * blend) * (1 + strength * texture[..., None])


def _draw_clutter(
    rng: np.random.Generator, image: np.ndarray, owner: np.ndarray, scale: float
) -> None:
    """Scatter tiny blobs that no caption names."""
    size = len(image)
    for _ in range(rng.integers(3, 9)):
        centre = tuple(int(c) for c in rng.integers(2, size - 2, 2))
        axes = tuple(round(a) for a in rng.uniform(1, 2.6, 2) * scale)
        colour = tuple(float(c) for c in rng.uniform(20, 235, 3))
        cv2.ellipse(image, centre, axes, 0, 0, 360, colour, cv2.FILLED)
        cv2.ellipse(owner, centre, axes, 0, 0, 360, 255, cv2.FILLED)


def _draw_objects(
    rng: np.random.Generator, image: np.ndarray, owner: np.ndarray, count: int, scale: float
) -> list[SceneObject]:
    """Draw up to `count` objects in place; a position that hides too much is drawn again."""
    objects: list[SceneObject] = []
    areas, visible = [0], [0]  # by owner index, so entry 0 is unused
    while len(objects) < count:
        shape = SHAPES[rng.integers(len(SHAPES))]
        size = SIZES[rng.integers(len(SIZES))]
        contours = _contours(shape, rng, rng.uniform(*_DIAMETERS[size]) * scale / 2)
        extent = np.ceil(np.concatenate(contours).max(0) - np.concatenate(contours).min(0)) + 2
        width, height = (int(side) for side in extent)
        shift = 1 - np.concatenate(contours).min(0)
        alpha = np.zeros((height, width), np.uint8)
        points = [np.round((contour + shift) * 16).astype(np.int32) for contour in contours]
        cv2.fillPoly(alpha, points, 255, cv2.LINE_AA, shift=4)
        solid = alpha > 127
        for _ in range(20):
            x, y = rng.integers(0, len(image) - width), rng.integers(0, len(image) - height)
            window = (slice(y, y + height), slice(x, x + width))
            hidden = np.bincount(owner[window][solid], minlength=256)
            left = [seen - hidden[i] for i, seen in enumerate(visible)]
            if all(left[i] >= _MIN_VISIBLE * areas[i] for i in range(1, len(areas))):
                break
        else:
            continue  # no room for this one: draw another shape and size
        colour = COLOURS[rng.integers(len(COLOURS))]
        texture = TEXTURES[rng.integers(len(TEXTURES))]
        paint = _paint(rng, colour, texture, (height, width), scale)
        weight = (alpha / np.float32(255))[..., None]
        image[window] += (paint - image[window]) * weight
        objects.append(SceneObject(shape, colour, texture, size, solid))
        owner[window][solid] = len(objects)
        areas.append(int(solid.sum()))
        visible = [*left, areas[-1]]
    return objects


def _contours(shape: str, rng: np.random.Generator, radius: float) -> list[np.ndarray]:
    """Outlines of a shape around the origin, up to 30 degrees off upright: [(N, 2) float, px]."""
    turn = rng.uniform(-np.pi / 6, np.pi / 6)

    def polygon(corners: int, radii: Sequence[float], first: float = -np.pi / 2) -> np.ndarray:
        angles = first + turn + 2 * np.pi * np.arange(corners) / corners
        spokes = np.resize(radii, corners) * radius
        return np.stack([np.cos(angles) * spokes, np.sin(angles) * spokes], 1)

    if shape == "circle":
        return [polygon(40, [1])]
    if shape == "ring":  # fillPoly fills between two nested outlines
        return [polygon(40, [1]), polygon(40, [rng.uniform(0.45, 0.55)])]
    if shape == "square":
        return [polygon(4, [1.15], first=np.pi / 4)]
    if shape == "triangle":
        return [polygon(3, [1.2])]
    if shape == "star":
        return [polygon(10, [1.15, 0.48])]
    arm = rng.uniform(0.28, 0.38)  # half the width of a bar of the cross
    corner = np.array([[1.05, -arm], [1.05, arm], [arm, arm]]) * radius
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    quarter = np.array([[0, 1], [-1, 0]])
    bars = [corner @ np.linalg.matrix_power(quarter, k) for k in range(4)]
    return [np.concatenate(bars) @ spin]


def _paint(
    rng: np.random.Generator, colour: str, texture: str, shape: tuple[int, int], scale: float
) -> np.ndarray:
    """Fill a window with a colour and a darker (for black: lighter) pattern: (h, w, 3) float32."""
    base = _rgb(rng, _COLOUR_RANGES[colour])
    second = base + 105 if colour == "black" else base * np.float32(rng.uniform(0.35, 0.55))
    turn, period = rng.uniform(0, np.pi), rng.uniform(5, 7) * scale
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    u = (x * np.cos(turn) + y * np.sin(turn)) / period + rng.random()
    v = (y * np.cos(turn) - x * np.sin(turn)) / period + rng.random()
    if texture == "plain":
        pattern = np.zeros(shape, bool)
    elif texture == "striped":
        pattern = u % 1 < 0.5
    elif texture == "dotted":
        pattern = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.11
    else:
        pattern = (u % 1 < 0.5) ^ (v % 1 < 0.5)
    return np.where(pattern[..., None], second, base).astype(np.float32)


def _light_and_noise(rng: np.random.Generator, image: np.ndarray) -> None:
    """Apply a lighting ramp and sensor noise in place."""
    ramp = np.linspace(-1, 1, len(image), dtype=np.float32)
    slope_x, slope_y = rng.uniform(-0.2, 0.2, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.85, 1.1)) + slope_x * ramp[None, :] + slope_y * ramp[:, None]
    image *= light[..., None]
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(3, 9))
