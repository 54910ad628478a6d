"""Where the class token looks: Figure 3 of MILAN's paper, for any encoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.look.concentration import concentration, patch_variance
from milan_mm.look.images import Photo, as_input, square
from milan_mm.look.outcome import Outcome, Wording, make_facts, name_weights
from milan_mm.look.systems import (
    Shown,
    count_heads,
    describe_layers,
    describe_sizes,
    image_sizes,
    layer_of,
)
from milan_mm.models.block import EncoderLayer
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.pooling import pool_attention
from milan_mm.visualization.panels import Bar, Frame, Panel, panel_figure

HEADS_PER_ROW = 6


@dataclass(frozen=True)
class AttentionSettings:
    """What is drawn.

    Attributes:
        layer: See `layer_of`.
        heads: Draw each head too.
        threshold: Share of the attention whose patches are kept, the others are greyed; None keeps
            all. As in DINO's pictures.
        img_size: Side of the images; None takes that of each encoder's pretraining.
    """

    layer: int | None = None
    heads: bool = False
    threshold: float | None = None
    img_size: int | None = None


@torch.inference_mode()
def class_attention(vit: PlainViT, imgs: Tensor, layer: int) -> Tensor:
    """Attention of the class token to the patches, in each head of a block.

    Args:
        vit: With a class token.
        imgs: (B, 3, H, W) float, normalised.
        layer: Number of the block, from 0.

    Returns:
        (B, A, h, w) float32; a map sums to 1 minus what goes to the class token and registers.
    """
    found: list[Tensor] = []

    def keep(block: EncoderLayer, inputs: tuple[Any, ...]) -> None:
        x, grid, rope = inputs[:3]
        found.append(block.attn.class_attention(block.ln1(x), grid, rope))

    handle = vit.layers[layer].register_forward_pre_hook(keep)
    try:
        vit.tokens_after(imgs, [layer])
    finally:
        handle.remove()
    grid = [side // vit.patch_size for side in imgs.shape[2:]]
    return found[0][:, :, vit.num_prefix_tokens :].unflatten(2, grid)


@torch.inference_mode()
def query_attention(vit: PlainViT, imgs: Tensor) -> Tensor:
    """Attention of the learned query of an attention pooling to the patches, in each head.

    Args:
        vit: With an attention pooling, which follows the last block.
        imgs: (B, 3, H, W) float, normalised.

    Returns:
        (B, A, h, w) float32, see `class_attention`.
    """
    last = vit.num_layers - 1
    attention = pool_attention(vit.attn_pool, vit.ln1(vit.tokens_after(imgs, [last])[last]))
    return attention[:, :, vit.num_prefix_tokens :].unflatten(2, vit.grid_of(imgs))


def keep_mass(attention: np.ndarray, share: float) -> np.ndarray:
    """Set all but the strongest patches, which hold some share of a map, to NaN.

    Args:
        attention: (..., h, w) float >= 0.
        share: Of the sum of the map, in (0, 1].

    Returns:
        The same shape; of each map the fewest patches that hold at least the share are left.
    """
    flat = attention.reshape(*attention.shape[:-2], -1)
    order = np.argsort(-flat, axis=-1, kind="stable")
    ranked = np.take_along_axis(flat, order, axis=-1)
    before = np.cumsum(ranked, axis=-1) - ranked
    is_kept = before < share * ranked.sum(axis=-1, keepdims=True)
    kept = np.empty_like(is_kept)
    np.put_along_axis(kept, order, is_kept, axis=-1)
    return np.where(kept, flat, np.nan).reshape(attention.shape)


def attention_figure(
    shown: Sequence[Shown], photos: Sequence[Photo], settings: AttentionSettings, wording: Wording
) -> Outcome:
    """Draw a row per image, and a column per encoder, or a column per head.

    Raises:
        UserError: For an encoder with neither class token nor attention pooling, or a size or
            layer that it does not have.
    """
    for system in shown:
        _check(system, settings.layer)
    sizes = image_sizes(settings.img_size, shown)
    layers = [layer_of(settings.layer, system) for system in shown]
    images = np.stack([square(photo, max(sizes)) for photo in photos])
    maps = [
        np.concatenate([_attention(system, photo, size, layer) for photo in photos])
        for system, size, layer in zip(shown, sizes, layers, strict=True)
    ]  # (B, A, h, w) each
    caption = _caption(shown, layers, settings, sizes)
    lines = [
        _summary(system, heads, photos, size)
        for system, heads, size in zip(shown, maps, sizes, strict=True)
    ]
    names = [photo.path.stem for photo in photos]
    if settings.heads:
        per_row = min(HEADS_PER_ROW, max(heads.shape[1] for heads in maps))
        titles, rows, row_titles = ["image", "mean of heads", *[""] * per_row], [], []
        for i, image in enumerate(images):
            for system, heads in zip(shown, maps, strict=True):
                block = _head_rows(image, heads[i], per_row, settings.threshold)
                rows += block
                row_titles += [system.name if len(shown) > 1 else names[i], *[""] * len(block[1:])]
    else:
        titles, row_titles = ["image", *(system.name for system in shown)], names
        rows = _mean_rows(images, maps, settings.threshold)
    bars = [_bar(len(titles) - 1)]
    drawn = wording.drawn(caption)
    frame = Frame(titles, row_titles, bars, caption=drawn, width=wording.width)
    figure = panel_figure(rows, frame)
    facts = make_facts(
        "Class attention",
        caption,
        wording,
        shown,
        photos,
        layers=[layer + 1 for layer in layers],
        heads=[count_heads(system) for system in shown] if settings.heads else "mean",
        threshold=settings.threshold,
        img_size=sizes,
    )
    return Outcome(figure, facts, lines)


def _check(system: Shown, layer: int | None) -> None:
    """Refuse an encoder whose vector of an image does not come from attention."""
    source = system.encoder.source
    if system.vit.with_cls_token:
        return
    if not system.vit.options.with_pool:
        raise UserError(
            f"{source} has no class token, so no class attention, and no attention pooling: leave "
            "it out, or look at its features with `tools/look.py pca`"
        )
    if layer is not None:
        raise UserError(
            f"{source} has no class token, and its attention pooling follows the last block: leave "
            "out --layer"
        )


Rows = list[list[Panel | None]]


def _attention(system: Shown, photo: Photo, size: int, layer: int) -> np.ndarray:
    """(1, A, h, w); one image at a time, however many there are."""
    inputs = as_input(square(photo, size)[None], system.encoder.stats, system.device)
    if system.vit.with_cls_token:
        return class_attention(system.vit, inputs, layer).cpu().numpy()
    return query_attention(system.vit, inputs).cpu().numpy()


def _summary(system: Shown, heads: np.ndarray, photos: Sequence[Photo], size: int) -> str:
    """How concentrated the mean of the heads (B, A, h, w) is."""
    maps = heads.mean(axis=1)
    h, w = maps.shape[1:]
    variance = np.stack([patch_variance(square(photo, size), (h, w)) for photo in photos])
    return f"{system.name}: {concentration(maps, variance)}"


def _mean_rows(images: np.ndarray, maps: Sequence[np.ndarray], threshold: float | None) -> Rows:
    """A row per image: the image, and the mean of the heads of each encoder."""
    return [
        [Panel(image), *(_panel(heads[i].mean(axis=0), threshold) for heads in maps)]
        for i, image in enumerate(images)
    ]


def _head_rows(image: np.ndarray, heads: np.ndarray, per_row: int, threshold: float | None) -> Rows:
    """Of an image and an encoder: the image, the mean of the heads, and the heads (A, h, w)."""
    panels: list[Panel | None] = [
        _panel(head, threshold, f"head {i + 1}: ") for i, head in enumerate(heads)
    ]
    panels += [None] * (-len(panels) % per_row)
    start: list[Panel | None] = [Panel(image), _panel(heads.mean(axis=0), threshold)]
    empty: list[Panel | None] = [None, None]
    return [
        (start if i == 0 else empty) + panels[i : i + per_row]
        for i in range(0, len(panels), per_row)
    ]


def _panel(attention: np.ndarray, threshold: float | None, note: str = "") -> Panel:
    """A map from 0 to its own largest value, which stands below it."""
    values = attention if threshold is None else keep_mass(attention, threshold)
    peak = float(attention.max())
    percent = float(f"{100 * peak:.2g}")  # 'g' alone would write 100 as 1e+02
    return Panel(values, "attention", 0, peak, note=f"{note or 'max '}{percent:g} %")


def _bar(last: int) -> Bar:
    label = "share of the class token's attention"
    return Bar(1, last, "attention", label, ends=("0", "max of each map"))


def _caption(
    shown: Sequence[Shown],
    layers: Sequence[int],
    settings: AttentionSettings,
    sizes: Sequence[int],
) -> str:
    pooled = [system.name for system in shown if not system.vit.with_cls_token]
    note = (
        f" Without class token, of the query of the pooling: {', '.join(pooled)}." if pooled else ""
    )
    what = "each head and their mean" if settings.heads else "mean over the heads"
    kept = ""
    if settings.threshold is not None:
        kept = f" Grey: outside the strongest patches that hold {settings.threshold:.0%} of a map."
    return (
        f"Attention of the class token to the patches in {describe_layers(layers, shown)}, {what}; "
        f"below each map the largest share that a patch gets.{note} "
        f"{describe_sizes(sizes, shown)}{kept} "
        f"{name_weights(shown)}"
    )
