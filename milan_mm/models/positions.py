"""Two-dimensional positions: the sine-cosine table, resizing of tables, rotary positions."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import RotaryEmbeddingCat, RotaryEmbeddingDinoV3
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.free_sizes import are_known, counting, number, resize_freely

# How a position table is resized -> whose code does so.
RESIZE_RULES = {
    "bicubic": "MAE, MILAN, DeiT, BEiT, detectron2, mmsegmentation: torch's bicubic",
    "bicubic-offset": "DINO, and DINOv2 without registers: sides are scaled by (n + 0.1) / m",
    "bicubic-antialias": "timm, open_clip, and DINOv2 with registers: antialiased",
    "bicubic-corners": "torchvision, SWAG: the corner patches keep their values",
    "bilinear": "mmpretrain with interpolate_mode='bilinear'",
    "bilinear-antialias": "TIPS: linear and antialiased",
    "bilinear-corners": "Google's ViTs: linear, and the corner patches keep their values",
}


@dataclass(frozen=True)
class RopeKind:
    """How a system's rotary positions number the patches, and which channels they turn together.

    Attributes:
        first: Number of the first patch of a side; None for places from -1 to 1.
        column_first: Whether the first half of the frequencies counts columns (x).
        halves: Channels i and i + d/2 are turned together, otherwise channels 2i and 2i + 1.
    """

    first: int | None
    column_first: bool
    halves: bool

    @property
    def anew_in_windows(self) -> bool:
        """Whether a window is numbered as an image of its own, as in EVA-02's and PE's detectors.

        Otherwise its patches have their places in the whole image.
        """
        return self.first is not None


ROPE_KINDS = {
    "dinov3": RopeKind(None, column_first=False, halves=True),
    "eva02": RopeKind(0, column_first=False, halves=False),
    "pe": RopeKind(1, column_first=True, halves=False),  # its class token is at 0
    "pe-patches": RopeKind(0, column_first=True, halves=False),  # PE without class token
}


def sincos_pos_embed(embed_dims: int, grid: tuple[int, int], with_cls_token: bool) -> Tensor:
    """Fixed sine-cosine table; the column (x) fills the first half of the channels.

    Each half holds the sines, then the cosines, of the coordinate at geometrically spaced
    frequencies. The class token's row is zero. mmpretrain's tables have the halves swapped, so a
    table always stays with its weights and is never rebuilt.

    Args:
        embed_dims: Number of channels, a multiple of 4.
        grid: (h, w) in patches.
        with_cls_token: Put a zero row first.

    Returns:
        (1, [1+]h*w, embed_dims) float32, row-major.

    Source: the table of MAE (arXiv 2111.06377) and MILAN's official weights.
    """
    if embed_dims % 4:
        raise UserError(f"embed_dims {embed_dims} is not a multiple of 4")
    num_frequencies = embed_dims // 4
    frequencies = 10000 ** -(torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [coordinate.reshape(-1, 1) * frequencies for coordinate in (x, y)]  # (h*w, D/4) each
    table = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)
    if with_cls_token:
        table = F.pad(table, (0, 0, 1, 0))
    return table.float().unsqueeze(0)


def resize_pos_embed(
    pos_embed: Tensor, src: tuple[int, int], dst: tuple[int, int], rule: str = "bicubic"
) -> Tensor:
    """Resize a position table; rows before those of the patches do not change.

    Args:
        pos_embed: (1, P + h*w, D) float, with any number P of class or register rows first.
        src: (h, w) of the table.
        dst: (h, w) wanted; equal sizes return the input itself, if they are known (`free_sizes`).
        rule: Key of `RESIZE_RULES`. The rules differ by a few per cent of a position, most when a
            table becomes smaller, so an encoder needs that of its own pretraining.

    Returns:
        (1, P + dst_h*dst_w, D), computed in float32 at least.
    """
    known = are_known(*dst)
    if known and src == dst:
        return pos_embed
    num_extra = pos_embed.shape[1] - src[0] * src[1]
    extra, patches = pos_embed[:, :num_extra], pos_embed[:, num_extra:]
    images = patches.mT.unflatten(2, src)  # (1, D, h, w)
    if images.dtype in (torch.float16, torch.bfloat16):  # too coarse, and not on every CPU
        images = images.float()
    images = _resize(images, dst, rule) if known else resize_freely(images, src, dst, rule)
    return torch.cat([extra, images.flatten(2).mT.to(pos_embed.dtype)], dim=1)


def build_rope(
    kind: str, head_dims: int, base: float, grid: tuple[int, int] | None
) -> RotaryEmbeddingDinoV3 | RotaryEmbeddingCat:
    """timm's module for rotary positions, which has no parameters.

    Args:
        kind: Key of `ROPE_KINDS`.
        head_dims: Channels d = D/A of a head.
        base: Of the geometric series of periods.
        grid: (h, w) that the numbers of the patches are scaled to; None for no scaling.
    """
    rule = ROPE_KINDS[kind]
    if rule.first is None:
        return RotaryEmbeddingDinoV3(head_dims, temperature=base)
    return RotaryEmbeddingCat(
        head_dims,
        in_pixels=False,
        temperature=base,
        ref_feat_shape=None if grid is None else list(grid),
        grid_offset=float(rule.first),
        grid_indexing="xy" if rule.column_first else "ij",
    )


def rotary_embed(rope: nn.Module, grid: tuple[int, int]) -> Tensor:
    """Sines and cosines of rotary positions: (h*w, 2d) float32, d being D/A.

    Args:
        rope: Of `build_rope`, which computes them wherever the sizes are known (`free_sizes`).
        grid: (h, w) in patches.
    """
    known = are_known(*grid)
    if isinstance(rope, RotaryEmbeddingDinoV3):
        if known:
            return rope.get_embed(list(grid))
        periods: Tensor = rope.periods  # type: ignore[assignment]
        return _places_dinov3(periods, grid)
    assert isinstance(rope, RotaryEmbeddingCat)
    return rope.get_embed(list(grid)) if known else _places_numbered(rope, grid)


def _places_dinov3(periods: Tensor, grid: tuple[int, int]) -> Tensor:
    """Of DINOv3, with its `(d/4,)` periods."""
    y, x = ((counting(n, periods) + 0.5) / number(n, periods) * 2 - 1 for n in grid)
    by_row = (y[:, None, None] / periods).expand(-1, grid[1], -1)
    by_column = (x[None, :, None] / periods).expand(grid[0], -1, -1)
    angles = 2 * math.pi * torch.cat([by_row, by_column], dim=-1).flatten(0, 1)  # (h*w, d/2)
    return torch.cat([angles.sin(), angles.sin(), angles.cos(), angles.cos()], dim=-1)


def _places_numbered(rope: RotaryEmbeddingCat, grid: tuple[int, int]) -> Tensor:
    """Of numbered patches; their frequencies are a buffer `(d/4,)`."""
    bands: Tensor = rope.bands  # type: ignore[assignment]
    places = [counting(n, bands) + rope.grid_offset for n in grid]
    if rope.ref_feat_shape is not None:
        scales = zip(places, grid, rope.ref_feat_shape, strict=True)
        places = [place / number(n, bands) * side for place, n, side in scales]
    by_row = (places[0][:, None, None] * bands).expand(-1, grid[1], -1)
    by_column = (places[1][None, :, None] * bands).expand(grid[0], -1, -1)
    order = [by_column, by_row] if rope.grid_indexing == "xy" else [by_row, by_column]
    angles = torch.cat(order, dim=-1).flatten(0, 1).repeat_interleave(2, dim=-1)  # (h*w, d)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _resize(images: Tensor, dst: tuple[int, int], rule: str) -> Tensor:
    if rule == "bicubic-offset":
        src_h, src_w = images.shape[2:]
        factors = ((dst[0] + 0.1) / src_h, (dst[1] + 0.1) / src_w)
        return F.interpolate(images, scale_factor=factors, mode="bicubic")
    mode, _, rest = rule.partition("-")
    return F.interpolate(
        images,
        size=dst,
        mode=mode,
        align_corners=rest == "corners",
        antialias=rest == "antialias",
    )
