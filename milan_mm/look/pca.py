"""Patch features in three colours, as DINOv2 (arXiv 2304.07193) and CAPI (2502.08769) show them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.look.images import Photo, as_input, square
from milan_mm.look.outcome import Outcome, Wording, make_facts, name_weights
from milan_mm.look.systems import (
    Shown,
    describe_each,
    describe_sizes,
    ends_in_norm,
    image_sizes,
    layer_of,
)
from milan_mm.models.plain_vit import PlainViT
from milan_mm.visualization.panels import Frame, Panel, panel_figure
from milan_mm.visualization.style import NO_VALUE

COLOURS = 3
ENDS = 0.02  # quantile of a component that is shown as its darkest value, and 1 minus it
TIMES = 2  # how many times as large as in pretraining the images are by default


@dataclass(frozen=True)
class PcaSettings:
    """What is drawn.

    Attributes:
        layer: See `layer_of`.
        foreground: Cut the background off, by the first component of all patches.
        img_size: Side of the images; None takes `TIMES` that of each encoder's pretraining.
    """

    layer: int | None = None
    foreground: bool = False
    img_size: int | None = None


@torch.inference_mode()
def patch_features(vit: PlainViT, imgs: Tensor, layer: int) -> Tensor:
    """(B, h, w, D) float32 output of a block, of the last one after the final norm."""
    tokens = vit.tokens_after(imgs, [layer])[layer]
    if layer == vit.num_layers - 1:
        tokens = vit.ln1(tokens)
    grid = [side // vit.patch_size for side in imgs.shape[2:]]
    return tokens[:, vit.num_prefix_tokens :].float().unflatten(1, grid)


def principal_components(features: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components, and the share of the variance that each explains.

    The sign of a component is that of its largest weight, so that equal features have equal colours
    everywhere.

    Args:
        features: (N, D) float, with more than `number` different rows.

    Returns:
        (N, number) and (number,) float.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)  # D x D, however many patches there are
    values, vectors = values[::-1][:number].clip(0), vectors[:, ::-1][:, :number]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return centred @ vectors, values / max(float((centred**2).sum()), 1e-30)


def find_foreground(first: np.ndarray) -> np.ndarray:
    """Split patches by the first component: the side that is rarer at the edge is the foreground.

    Args:
        first: (B, h, w) float, centred at 0.

    Returns:
        (B, h, w) bool.
    """
    above = first > 0
    edge = np.ones(first.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    return above if above[:, edge].mean() < above.mean() else ~above


def colours_of(features: np.ndarray, foreground: bool) -> tuple[np.ndarray, float]:
    """Colours of patches, with one basis for all images.

    Args:
        features: (B, h, w, D) float.
        foreground: See `PcaSettings`.

    Returns:
        (B, h, w, 3) uint8, `NO_VALUE` where the background is cut off, and the share of the
        variance of the coloured patches that the three components explain.

    Raises:
        UserError: When too few patches are left.
    """
    shape = features.shape[:3]
    flat = features.reshape(-1, features.shape[-1])
    is_shown = np.ones(len(flat), bool)
    if foreground:
        first, _ = principal_components(flat, 1)
        is_shown = find_foreground(first.reshape(shape)).reshape(-1)
    if is_shown.sum() <= COLOURS:
        raise UserError(
            f"{is_shown.sum()} patches are left for {COLOURS} components: give more images, or a "
            "larger --img-size"
        )
    components, shares = principal_components(flat[is_shown], COLOURS)
    low, high = np.quantile(components, [ENDS, 1 - ENDS], axis=0)
    scaled = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    grey = [round(255 * value) for value in to_rgb(NO_VALUE)]
    colours = np.tile(np.array(grey, np.uint8), (len(flat), 1))
    colours[is_shown] = (255 * scaled).round()
    return colours.reshape(*shape, COLOURS), float(shares.sum())


def pca_figure(
    shown: Sequence[Shown], photos: Sequence[Photo], settings: PcaSettings, wording: Wording
) -> Outcome:
    """Draw a row per image, and a column per encoder.

    Raises:
        UserError: For a size or layer that an encoder does not have.
    """
    sizes = image_sizes(settings.img_size, shown, TIMES)
    layers = [layer_of(settings.layer, system) for system in shown]
    images = np.stack([square(photo, max(sizes)) for photo in photos])
    coloured, shares = [], []
    for system, size, layer in zip(shown, sizes, layers, strict=True):
        features = [
            patch_features(
                system.vit,
                as_input(square(photo, size)[None], system.encoder.stats, system.device),
                layer,
            )
            .cpu()
            .numpy()
            for photo in photos
        ]  # one image at a time, however many there are
        colours, share = colours_of(np.concatenate(features), settings.foreground)
        coloured.append(colours)
        shares.append(share)
    rows = [
        [Panel(image), *(Panel(colours[i], interpolate=False) for colours in coloured)]
        for i, image in enumerate(images)
    ]
    of_what = "patches of the foreground" if settings.foreground else "patches"
    explained = ", ".join(f"{s.name} {share:.0%}" for s, share in zip(shown, shares, strict=True))
    cut_off = ""
    if settings.foreground:
        cut_off = " Grey: background, by the sign of the first component of all patches."
    caption = (
        f"Output of {_describe_outputs(layers, shown)}: the first three principal components of "
        f"all {of_what}, as red, green and blue, each from its {ENDS:.0%} to its {1 - ENDS:.0%} "
        "quantile; one basis per encoder for all images. Variance explained by the three: "
        f"{explained}.{cut_off} {describe_sizes(sizes, shown)} {name_weights(shown)}"
    )
    frame = Frame(
        titles=["image", *(system.name for system in shown)],
        row_titles=[photo.path.stem for photo in photos],
        caption=wording.drawn(caption),
        width=wording.width,
    )
    figure = panel_figure(rows, frame)
    facts = make_facts(
        "Principal components of patch features", caption, wording, shown, photos,
        layers=[layer + 1 for layer in layers], foreground=settings.foreground, img_size=sizes,
        explained=[round(share, 4) for share in shares],
    )  # fmt: skip
    return Outcome(figure, facts)


def _describe_outputs(layers: Sequence[int], shown: Sequence[Shown]) -> str:
    """'block 12 of 12 after the final norm', see `patch_features` and `describe_each`."""
    texts = []
    for layer, system in zip(layers, shown, strict=True):
        depth = system.vit.num_layers
        is_normed = layer == depth - 1 and ends_in_norm(system)
        texts.append(f"block {layer + 1} of {depth}" + " after the final norm" * is_normed)
    return describe_each(texts, shown)
