"""PlainViT: the one encoder of this package.

Pretraining encodes the kept patches only, classification sees all of them, and detection and
segmentation ask for feature maps, with window attention where a 1024-pixel image needs it. One
weights file serves all of these: the parameters are the same everywhere and carry the names of
mmpretrain's `VisionTransformer`.

Shape letters of this package: B batch, L patches = K kept + M masked, D encoder width, E decoder
width, C target width, A heads, H W image pixels, h w patch grid. The class token comes first, so
a full sequence is 1+L.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torch.utils.checkpoint import checkpoint

from milan_mm.positions import resize_pos_embed, sincos_pos_embed
from milan_mm.registry import MODELS
from milan_mm.relative import attend_with_rel_pos

ARCHS = {
    "tiny": dict(embed_dims=192, num_layers=12, num_heads=3),
    "small": dict(embed_dims=384, num_layers=12, num_heads=6),
    "base": dict(embed_dims=768, num_layers=12, num_heads=12),
    "large": dict(embed_dims=1024, num_layers=24, num_heads=16),
}


@MODELS.register_module()
class PlainViT(BaseModule):
    """Pre-norm Vision Transformer without hierarchy (arXiv 2010.11929; dense use 2203.16527).

    Args:
        arch: A key of `ARCHS`, or a dict with `embed_dims`, `num_layers`, `num_heads`.
        img_size: Height and width, in pixels, of the position table (the pretraining crop). Other
            input sizes are served by resizing the table bicubically.
        patch_size: Side of a square patch in pixels.
        with_cls_token: Prepend the class token. Window attention needs False.
        final_norm: Apply the last LayerNorm (`ln1`) after the last block.
        fixed_pos_embed: Keep the sine-cosine table frozen, as in pretraining.
        out_indices: Blocks whose output `forward` returns; negative counts from the end.
        out_type: 'featmap' (B, D, h, w), 'cls_token' (B, D), 'avg_featmap' (B, D), the mean of the
            patches followed by a LayerNorm (`ln2`) of its own, or 'raw' (B, 1+L, D).
        window_size: Side of an attention window in patches; 0 means global attention everywhere.
        global_layers: Blocks that attend globally although `window_size` is set.
        rel_pos_grid: (h, w) in patches of the images to train on gives every block decomposed
            relative positions, zero at first: 2n-1 entries along a side of n patches, of the
            window or, in global blocks, of this grid. Other grids are served by resizing the
            tables. None: no relative positions.
        drop_path_rate: Stochastic depth of the last block; earlier blocks grow linearly from 0.
        with_cp: Recompute block activations in the backward pass to save memory.
        frozen: Take no gradient and stay in eval mode, for probes of frozen features.
        init_cfg: `dict(type='milan_mm.EncoderWeights', checkpoint=FILE)` loads pretrained weights
            strictly; None initialises from scratch.

    Raises:
        ValueError: For sizes or options that contradict each other.
    """

    OUT_TYPES = ("featmap", "cls_token", "avg_featmap", "raw")

    def __init__(
        self,
        arch: str | dict,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        with_cls_token: bool = True,
        final_norm: bool = True,
        fixed_pos_embed: bool = False,
        out_indices: Sequence[int] = (-1,),
        out_type: str = "featmap",
        window_size: int = 0,
        global_layers: Sequence[int] = (),
        rel_pos_grid: int | tuple[int, int] | None = None,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if isinstance(arch, str) and arch not in ARCHS:
            raise ValueError(
                f"arch '{arch}' is unknown: choose from {sorted(ARCHS)} or give a dict"
            )
        settings = ARCHS[arch] if isinstance(arch, str) else arch
        self.embed_dims: int = settings["embed_dims"]
        self.num_layers: int = settings["num_layers"]
        num_heads: int = settings["num_heads"]
        height, width = _pair(img_size)
        if height % patch_size or width % patch_size:
            nearest = tuple(round(side / patch_size) * patch_size for side in (height, width))
            raise ValueError(
                f"img_size {(height, width)} is not a multiple of patch_size {patch_size}: "
                f"use {nearest}"
            )
        if self.embed_dims % num_heads:
            raise ValueError(f"embed_dims {self.embed_dims} is not a multiple of {num_heads} heads")
        if out_type not in self.OUT_TYPES:
            raise ValueError(f"out_type '{out_type}' is unknown: choose from {self.OUT_TYPES}")
        if out_type == "cls_token" and not with_cls_token:
            raise ValueError("out_type 'cls_token' needs with_cls_token=True")
        if window_size and with_cls_token:
            raise ValueError(
                "window attention has no place for a class token: with_cls_token=False"
            )
        if rel_pos_grid and with_cls_token:
            raise ValueError(
                "relative positions have no place for a class token: with_cls_token=False"
            )
        self.patch_size = patch_size
        self.grid_size = (height // patch_size, width // patch_size)  # (h, w)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.out_type = out_type
        self.out_indices = _resolve_indices(out_indices, self.num_layers)
        self.with_cls_token = with_cls_token
        self.frozen = frozen

        self.patch_embed = PatchEmbed(patch_size, self.embed_dims)
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        self.pos_embed = nn.Parameter(
            sincos_pos_embed(self.embed_dims, self.grid_size, with_cls_token),
            requires_grad=not fixed_pos_embed,
        )
        global_layers = _resolve_indices(global_layers, self.num_layers)
        drop_path_rates = np.linspace(0, drop_path_rate, self.num_layers).tolist()
        global_grid = _pair(rel_pos_grid) if rel_pos_grid else None
        self.layers = nn.ModuleList(
            EncoderLayer(
                self.embed_dims,
                num_heads,
                drop_path_rate=drop_path_rates[i],
                window_size=0 if i in global_layers else window_size,
                global_rel_pos_grid=global_grid,
                with_cp=with_cp,
            )
            for i in range(self.num_layers)
        )
        self.ln1 = layer_norm(self.embed_dims) if final_norm else nn.Identity()
        if out_type == "avg_featmap":
            self.ln2 = layer_norm(self.embed_dims)
        self.apply(init_transformer)
        if with_cls_token:
            nn.init.normal_(self.cls_token, std=0.02)
        if frozen:
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, or stay in eval mode when frozen."""
        return super().train(mode and not self.frozen)

    def embed(self, imgs: Tensor) -> Tensor:
        """Cut images into patches and embed them with their positions.

        Args:
            imgs: (B, 3, H, W) float, normalised. H and W must be multiples of the patch size.

        Returns:
            (B, L, D) float: all patches in row-major order, without the class token.
        """
        x = self.patch_embed(imgs)  # (B, D, h, w)
        pos_embed = resize_pos_embed(self.pos_embed, self.grid_size, x.shape[-2:])
        return x.flatten(2).transpose(1, 2) + pos_embed[:, -x.shape[-2] * x.shape[-1] :]

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode any subset of embedded patches together with the class token.

        Args:
            tokens: (B, K, D) float from `embed`; the order does not matter.

        Returns:
            (B, 1+K, D) float, class token first.
        """
        x = self._prepend_cls_token(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.ln1(x)

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Encode all patches.

        Args:
            imgs: (B, 3, H, W) float, normalised.

        Returns:
            One tensor per entry of `out_indices`, shaped as `out_type` says. The last block's
            output is normalised when `final_norm` is set, earlier ones never are.
        """
        grid = (imgs.shape[-2] // self.patch_size, imgs.shape[-1] // self.patch_size)
        x = self._prepend_cls_token(self.embed(imgs))
        outs = []
        for i, layer in enumerate(self.layers):
            x = layer(x, grid)
            if i in self.out_indices:
                outs.append(self._format(self.ln1(x) if i == self.num_layers - 1 else x, grid))
        return tuple(outs)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rates (mmpretrain's convention).

        Returns:
            (depth, num_depths): 0 for the embedding, i+1 for block i, num_depths-1 for all else.
        """
        num_depths = self.num_layers + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return num_depths - 1, num_depths
        if name in ("cls_token", "pos_embed") or name.startswith("patch_embed."):
            return 0, num_depths
        if name.startswith("layers."):
            return int(name.split(".")[1]) + 1, num_depths
        return num_depths - 1, num_depths

    def _prepend_cls_token(self, tokens: Tensor) -> Tensor:
        if not self.with_cls_token:
            return tokens
        cls_token = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([cls_token.expand(len(tokens), -1, -1), tokens], dim=1)

    def _format(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.out_type == "raw":
            return x
        if self.out_type == "cls_token":
            return x[:, 0]
        patches = x[:, int(self.with_cls_token) :]
        if self.out_type == "avg_featmap":
            return self.ln2(patches.mean(dim=1))
        return patches.transpose(1, 2).unflatten(2, grid)  # (B, D, h, w)


class PatchEmbed(nn.Module):
    """Linear embedding of non-overlapping square patches: (B, 3, H, W) to (B, D, h, w)."""

    def __init__(self, patch_size: int, embed_dims: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, embed_dims, patch_size, stride=patch_size)

    def forward(self, imgs: Tensor) -> Tensor:
        patch_size = self.projection.kernel_size[0]
        if imgs.shape[-2] % patch_size or imgs.shape[-1] % patch_size:
            raise ValueError(
                f"image of {imgs.shape[-2]}x{imgs.shape[-1]} pixels is not a multiple of the patch "
                f"size {patch_size}: pad it (pad_size_divisor={patch_size} in the data "
                "preprocessor) or resize it"
            )
        return self.projection(imgs)


class EncoderLayer(nn.Module):
    """Pre-norm transformer block: x + Attention(ln1(x)), then x + FFN(ln2(x))."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        drop_path_rate: float = 0.0,
        window_size: int = 0,
        global_rel_pos_grid: tuple[int, int] | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.with_cp = with_cp
        self.ln1 = layer_norm(embed_dims)
        rel_pos_grid = global_rel_pos_grid
        if rel_pos_grid and window_size:
            rel_pos_grid = (window_size, window_size)
        self.attn = SelfAttention(embed_dims, num_heads, rel_pos_grid)
        self.drop_path = DropPath(drop_path_rate)
        self.ln2 = layer_norm(embed_dims)
        self.ffn = feed_forward(embed_dims, drop_path_rate)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """x: (B, N, D). grid: (h, w) of the patches, for windows and relative positions."""
        if self.with_cp and self.training:
            return checkpoint(self._forward, x, grid, use_reentrant=False)
        return self._forward(x, grid)

    def _forward(self, x: Tensor, grid: tuple[int, int] | None) -> Tensor:
        x = x + self.drop_path(self._attend(self.ln1(x), grid))
        return self.ffn(self.ln2(x), identity=x)

    def _attend(self, x: Tensor, grid: tuple[int, int] | None) -> Tensor:
        size = self.window_size
        if not size:
            return self.attn(x, grid)
        if grid is None:
            raise ValueError("window attention needs all patches of the image, not a subset")
        windows = split_windows(x.unflatten(1, grid), size)  # (B*n, s*s, D)
        return merge_windows(self.attn(windows, (size, size)), size, grid).flatten(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens that are passed in.

    Args:
        rel_pos_grid: (h, w) of the patches for which there are decomposed relative positions.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, rel_pos_grid: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.with_rel_pos = rel_pos_grid is not None
        if rel_pos_grid:
            tables = [torch.zeros(2 * n - 1, embed_dims // num_heads) for n in rel_pos_grid]
            self.rel_pos_h, self.rel_pos_w = map(nn.Parameter, tables)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """x: (B, N, D). grid: (h, w) with h*w = N, for relative positions. Returns (B, N, D)."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, A, D/A)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, A, N, D/A)
        if not self.with_rel_pos:
            x = F.scaled_dot_product_attention(q, k, v)
        elif grid is None:
            raise ValueError("relative positions need all patches of the image, not a subset")
        else:
            x = attend_with_rel_pos(q, k, v, self.rel_pos_h, self.rel_pos_w, grid)
        return self.proj(x.transpose(1, 2).flatten(2))


def split_windows(x: Tensor, window_size: int) -> Tensor:
    """Cut (B, h, w, D) into windows (B*n, s*s, D), zero-padded at the bottom and right.

    The padded tokens take part in attention, as in the published plain-ViT detector.
    """
    h, w = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -w % window_size, 0, -h % window_size))
    x = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))  # (B, n, s, m, s, D)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def merge_windows(windows: Tensor, window_size: int, grid: tuple[int, int]) -> Tensor:
    """Undo `split_windows`: (B*n, s*s, D) to (B, h, w, D), with the padding cut off."""
    rows, cols = -(-grid[0] // window_size), -(-grid[1] // window_size)
    x = windows.unflatten(1, (window_size, window_size)).unflatten(0, (-1, rows, cols))
    x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, rows*s, cols*s, D)
    return x[:, : grid[0], : grid[1]]


def feed_forward(embed_dims: int, drop_path_rate: float = 0.0) -> FFN:
    """The block's MLP: two linear layers, four times as wide inside, GELU."""
    return FFN(
        embed_dims,
        4 * embed_dims,
        act_cfg=dict(type="GELU"),
        dropout_layer=dict(type="DropPath", drop_prob=drop_path_rate),
    )


def layer_norm(dims: int) -> nn.LayerNorm:
    """LayerNorm with the epsilon of all MAE-family ViTs."""
    return nn.LayerNorm(dims, eps=1e-6)


def init_transformer(module: nn.Module) -> None:
    """Xavier-uniform linear layers and patch embedding (seen as a matrix), zero biases.

    Source: MILAN and MAE pretraining recipe (see docs/pretrain.md).
    """
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _resolve_indices(indices: Sequence[int], num_layers: int) -> tuple[int, ...]:
    for i in indices:
        if not -num_layers <= i < num_layers:
            raise ValueError(f"block index {i} is outside {-num_layers}..{num_layers - 1}")
    return tuple(i % num_layers for i in indices)
