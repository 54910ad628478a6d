"""Patches: cutting an image, embedding, picking some of them, and grouping them into windows.

Shape letters as in `milan_mm/models/plain_vit.py`; s is the side of a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.free_sizes import are_known, counting


class PatchEmbed(nn.Module):
    """Linear embedding of non-overlapping square patches, of all or of some."""

    def __init__(
        self, patch_size: int, embed_dims: int, bias: bool = True, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, embed_dims, patch_size, stride=patch_size, bias=bias)
        self.with_norm = norm is not None
        if norm is not None:
            self.norm = norm

    def forward(self, imgs: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Embed.

        Args:
            imgs: (B, 3, H, W) float.
            ids_keep: (B, K) int64, the patches to embed; None means all L in row-major order.

        Returns:
            (B, K, D) or (B, L, D) float.

        Raises:
            UserError: If H or W is not a multiple of the patch size.
        """
        patch_size = self.projection.kernel_size[0]
        sizes = imgs.shape[-2:]
        if are_known(*sizes) and (sizes[0] % patch_size or sizes[1] % patch_size):
            raise UserError(
                f"image of {imgs.shape[-2]}x{imgs.shape[-1]} pixels is not a multiple of the patch "
                f"size {patch_size}: pad it (pad_size_divisor={patch_size} in the data "
                "preprocessor) or resize it"
            )
        patches = patchify(imgs, patch_size).flatten(1, 2)  # (B, L, 3*p*p)
        if ids_keep is not None:
            patches = gather_tokens(patches, ids_keep)
        embedded = embed_patches(self.projection, patches)
        return self.norm(embedded) if self.with_norm else embedded


def patchify(imgs: Tensor, patch_size: int) -> Tensor:
    """Cut into square patches: (B, 3, h*p, w*p) to (B, h, w, 3*p*p)."""
    patches = imgs.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Undo `patchify`: (B, h, w, 3*p*p) to (B, 3, h*p, w*p)."""
    pixels = patches.unflatten(3, (3, patch_size, patch_size))  # (B, h, w, 3, p, p)
    return pixels.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def embed_patches(conv: nn.Conv2d, patches: Tensor) -> Tensor:
    """Apply a convolution whose stride equals its kernel, as one matrix product.

    cuDNN's kernels for inputs of three channels are several times slower than the product.

    Args:
        conv: Of square patches, without padding.
        patches: (..., 3*p*p) from `patchify`.

    Returns:
        (..., D).
    """
    return F.linear(patches, conv.weight.flatten(1), conv.bias)


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick tokens by number: (B, L, D) and (B, K) int64 to (B, K, D)."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def split_windows(x: Tensor, window_size: int, fill: Tensor | None = None) -> Tensor:
    """Cut (B, h, w, D) into windows (B*n, s*s, D), padded at the bottom and right.

    Padding tokens take part in attention, as in the published plain-ViT detector.

    Args:
        fill: (D,) the value of every padding token; None means zeros.
    """
    h, w = x.shape[1:3]
    fill = x.new_zeros(x.shape[-1]) if fill is None else fill.to(x.dtype)
    right, below = _missing(w, window_size), _missing(h, window_size)
    if not are_known(h, w):
        x = _pad_freely(x, fill, h + below, w + right, window_size)
    else:
        if right:
            x = torch.cat([x, fill.expand(len(x), h, right, -1)], dim=2)
        if below:
            x = torch.cat([x, fill.expand(len(x), below, x.shape[2], -1)], dim=1)
    x = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))  # (B, n, s, m, s, D)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def merge_windows(windows: Tensor, window_size: int, grid: tuple[int, int]) -> Tensor:
    """Undo `split_windows`: (B*n, s*s, D) to (B, h, w, D), with the padding cut off."""
    rows, cols = ((n + _missing(n, window_size)) // window_size for n in grid)
    x = windows.unflatten(1, (window_size, window_size)).unflatten(0, (-1, rows, cols))
    x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, rows*s, cols*s, D)
    return x[:, : grid[0], : grid[1]]


def _pad_freely(x: Tensor, fill: Tensor, height: int, width: int, window_size: int) -> Tensor:
    """Pad to sizes that are not known: by all that may be missing, of which the rest is cut off.

    So no graph depends on whether anything is missing.
    """
    batch_size, most = x.shape[0], window_size - 1
    x = torch.cat([x, fill.expand(batch_size, x.shape[1], most, -1)], dim=2)
    x = x.index_select(2, counting(width, x))
    x = torch.cat([x, fill.expand(batch_size, most, width, -1)], dim=1)
    return x.index_select(1, counting(height, x))


def _missing(size: int, window_size: int) -> int:
    """What a side falls short of the next multiple of the window."""
    # not by a negative dividend, of which graphs of other libraries take another remainder
    return (window_size - size % window_size) % window_size
