"""Two-dimensional position tables: the sine-cosine formula, and resizing. Used by every task."""

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from milan_mm.errors import UserError


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


def resize_pos_embed(pos_embed: Tensor, src: tuple[int, int], dst: tuple[int, int]) -> Tensor:
    """Resize a position table bicubically, as timm does; rows before the patches do not change.

    Args:
        pos_embed: (1, P + h*w, D) float, with any number P of class or register rows first.
        src: (h, w) of the table. dst: (h, w) wanted; equal sizes return the input itself.

    Returns:
        (1, P + dst_h*dst_w, D).
    """
    num_extra = pos_embed.shape[1] - src[0] * src[1]
    return resample_abs_pos_embed(pos_embed, list(dst), list(src), num_prefix_tokens=num_extra)
