"""The layers of `PlainViT`: patch embedding, transformer block, attention, windows.

Shape letters as in `milan_mm/models/plain_vit.py`; N tokens that attend to each other, P of them
before the patches (class token and registers), s the side of a window.
"""

from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from milan_mm.errors import UserError
from milan_mm.models.cpu_attention import HAS_KERNEL, attend_in_chunks
from milan_mm.models.feed_forward import FeedForward
from milan_mm.models.recompute import recompute_input
from milan_mm.models.relative_bias import bias_table_size, look_up_bias
from milan_mm.models.relative_positions import attend_with_rel_pos

# On GPUs, the order of torch's attention kernels for few keys. The others pad them to larger tiles:
# with the 50 of the encoder cuDNN's took 0.58 ms on an H200, forward and backward,
# FlashAttention's 0.90 and this first one 0.42.
SHORT_KEYS = 64
_SHORT_ORDER = [
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.MATH,
]


class PatchEmbed(nn.Module):
    """Linear embedding of non-overlapping square patches, of all or of some."""

    def __init__(self, patch_size: int, embed_dims: int, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, embed_dims, patch_size, stride=patch_size, bias=bias)

    def forward(self, imgs: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Embed.

        Args:
            imgs: (B, 3, H, W) float.
            ids_keep: (B, K) int64, the patches to embed; None means all L in row-major order.

        Returns:
            (B, K, D) or (B, L, D) float.
        """
        patch_size = self.projection.kernel_size[0]
        if imgs.shape[-2] % patch_size or imgs.shape[-1] % patch_size:
            raise UserError(
                f"image of {imgs.shape[-2]}x{imgs.shape[-1]} pixels is not a multiple of the patch "
                f"size {patch_size}: pad it (pad_size_divisor={patch_size} in the data "
                "preprocessor) or resize it"
            )
        patches = patchify(imgs, patch_size).flatten(1, 2)  # (B, L, 3*p*p)
        if ids_keep is not None:
            patches = take(patches, ids_keep)
        return embed_patches(self.projection, patches)


def patchify(imgs: Tensor, patch_size: int) -> Tensor:
    """Cut into square patches: (B, 3, h*p, w*p) to (B, h, w, 3*p*p)."""
    patches = imgs.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)


def embed_patches(conv: nn.Conv2d, patches: Tensor) -> Tensor:
    """What a convolution with stride equal to its kernel does, by a matrix product.

    cuDNN has no quick kernel for three colours: on an H200 the two convolutions of a pretraining
    step took ten times as long as their products would.

    Args:
        conv: Of square patches, without padding.
        patches: (..., 3*p*p) from `patchify`.

    Returns:
        (..., D).
    """
    return F.linear(patches, conv.weight.flatten(1), conv.bias)


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick tokens by patch number: (B, L, D) and (B, K) int64 to (B, K, D)."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class DropPath(nn.Module):
    """Stochastic depth as mmcv's, with the rate in a buffer.

    A number would be part of the code that `torch.compile` makes, which then served one block only.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.drops = drop_prob > 0
        self.keep_prob: Tensor
        self.register_buffer("keep_prob", torch.tensor(1 - drop_prob), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Drop whole images of x (B, ...) in training, and scale the others up."""
        if not self.drops or not self.training:
            return x
        shape = (len(x),) + (1,) * (x.ndim - 1)
        kept = (self.keep_prob + torch.rand(shape, dtype=x.dtype, device=x.device)).floor()
        return x.div(self.keep_prob) * kept


class EncoderLayer(nn.Module):
    """Pre-norm transformer block: x + Attention(ln1(x)), then x + FFN(ln2(x)).

    Args:
        embed_dims, num_heads: Width D and attention heads A.
        drop_path_rate: Stochastic depth of this block.
        window_size: Side of an attention window in patches; 0 means global attention.
        rel_pos_grid: (h, w) of the images to train on, for decomposed relative positions; a
            window replaces it.
        bias_grid: (h, w) of a table of relative position biases.
        num_prefix_tokens: P, for the bias table.
        layer_scale: Initial factor on both branches (arXiv 2103.17239); None leaves it out.
        act: Of the MLP, a key of `feed_forward.ACTIVATIONS`.
        norm_eps: Of both LayerNorms.
        with_cp: Recompute the activations in the backward pass to save memory.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        drop_path_rate: float = 0.0,
        window_size: int = 0,
        rel_pos_grid: tuple[int, int] | None = None,
        bias_grid: tuple[int, int] | None = None,
        num_prefix_tokens: int = 0,
        layer_scale: float | None = None,
        act: str = "GELU",
        norm_eps: float = 1e-6,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.with_cp = with_cp
        self.ln1 = layer_norm(embed_dims, norm_eps)
        if rel_pos_grid and window_size:
            rel_pos_grid = (window_size, window_size)
        self.attn = SelfAttention(
            embed_dims, num_heads, rel_pos_grid, bias_grid, with_cls_token=num_prefix_tokens > 0
        )
        self.drop_path = DropPath(drop_path_rate)
        self.ln2 = layer_norm(embed_dims, norm_eps)
        self.ffn = FeedForward(embed_dims, act)
        if layer_scale is not None:
            self.gamma_1 = nn.Parameter(torch.full((embed_dims,), layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((embed_dims,), layer_scale))
        self.with_layer_scale = layer_scale is not None

    def forward(
        self, x: Tensor, grid: tuple[int, int] | None = None, rope: Tensor | None = None
    ) -> Tensor:
        """Attend and transform.

        Args:
            x: (B, N, D).
            grid: (h, w) of the patches, for windows and relative positions.
            rope: (h*w, 2D/A) sines and cosines of rotary positions.

        Returns:
            (B, N, D).
        """
        if self.with_cp and self.training:
            return checkpoint(self._forward, x, grid, rope, use_reentrant=False)
        return self._forward(x, grid, rope)

    def _forward(self, x: Tensor, grid: tuple[int, int] | None, rope: Tensor | None) -> Tensor:
        attended = recompute_input(self.ln1, partial(self._attend, grid=grid, rope=rope), x)
        if self.with_layer_scale:
            x = x + self.drop_path(self.gamma_1 * attended)
            return x + self.drop_path(self.gamma_2 * recompute_input(self.ln2, self.ffn, x))
        x = x + self.drop_path(attended)
        return x + self.drop_path(recompute_input(self.ln2, self.ffn, x))

    def _attend(self, x: Tensor, grid: tuple[int, int] | None, rope: Tensor | None) -> Tensor:
        size = self.window_size
        if not size:
            return self.attn(x, grid, rope)
        if grid is None:
            raise UserError("window attention needs all patches of the image, not a subset")
        # both linear layers see the patches only: of tokens of zeros the first makes its bias
        qkv = self.attn.qkv(x).unflatten(1, grid)
        windows = split_windows(qkv, size, fill=self.attn.qkv.bias)  # (B*n, s*s, 3D)
        if rope is not None:
            rope = split_windows(rope.unflatten(0, grid)[None], size)  # (n, s*s, 2D/A)
            rope = rope.repeat(len(x), 1, 1)[:, None]  # (B*n, 1, s*s, 2D/A)
        attended = self.attn.attend(windows, (size, size), rope)  # (B*n, s*s, D)
        return self.attn.proj(merge_windows(attended, size, grid).flatten(1, 2))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens that are passed in.

    Args:
        embed_dims, num_heads: Width D and heads A.
        rel_pos_grid: (h, w) of the patches for which there are decomposed relative positions.
        bias_grid: (h, w) of a table of relative position biases.
        with_cls_token: Whether the bias table has entries for a class token.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        rel_pos_grid: tuple[int, int] | None = None,
        bias_grid: tuple[int, int] | None = None,
        with_cls_token: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.bias_grid = bias_grid
        self.with_cls_token = with_cls_token
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.with_rel_pos = rel_pos_grid is not None
        if rel_pos_grid:
            tables = [torch.zeros(2 * n - 1, embed_dims // num_heads) for n in rel_pos_grid]
            self.rel_pos_h, self.rel_pos_w = map(nn.Parameter, tables)
        if bias_grid:
            num_entries = bias_table_size(bias_grid, with_cls_token)
            self.relative_position_bias_table = nn.Parameter(torch.zeros(num_entries, num_heads))

    def forward(
        self, x: Tensor, grid: tuple[int, int] | None = None, rope: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: (B, N, D), of which the last h*w are patches in row-major order.
            grid: (h, w), for relative positions.
            rope: ([B, 1,] h*w, 2D/A) sines and cosines of rotary positions.

        Returns:
            (B, N, D).
        """
        return self.proj(self.attend(self.qkv(x), grid, rope))

    def attend(
        self, qkv: Tensor, grid: tuple[int, int] | None = None, rope: Tensor | None = None
    ) -> Tensor:
        """What lies between the two linear layers: (B, N, 3D) to (B, N, D)."""
        # (B, N, 3, A, D/A) to three times (B, A, N, D/A)
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if self.bias_grid is None and not self.with_rel_pos:
            x = attend(q, k, v)
        elif grid is None:
            raise UserError("relative positions need all patches of the image, not a subset")
        elif self.bias_grid is None:
            x = attend_with_rel_pos(q, k, v, self.rel_pos_h, self.rel_pos_w, grid)
        else:
            table = self.relative_position_bias_table
            bias = look_up_bias(table, self.bias_grid, grid, self.with_cls_token)  # (A, N, N)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·k / sqrt(d)) v, by whatever is quickest.

    Args:
        q: (B, A, M, d). k, v: (B, A, N, d).

    Returns:
        (B, A, M, d).
    """
    on_cpu = q.device.type == "cpu" and HAS_KERNEL
    if on_cpu and q.dtype == torch.bfloat16 and q.requires_grad:
        return attend_in_chunks(q, k, v)
    if q.device.type == "cuda" and k.shape[2] <= SHORT_KEYS:
        # the list without its keyword, which torch 2.7 cannot compile
        with sdpa_kernel(_SHORT_ORDER, set_priority=True):
            return F.scaled_dot_product_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate the patches of queries or keys by their places (arXiv 2508.10104, DINOv3).

    Args:
        x: (B, A, N, d) float; the tokens before the patches are left as they are.
        rope: ([B, 1,] h*w, 2d) sines and cosines.

    Returns:
        (B, A, N, d), in the type of `x`.
    """
    num_prefix = x.shape[2] - rope.shape[-2]
    prefix, patches = x.split([num_prefix, rope.shape[-2]], dim=2)
    return torch.cat([prefix, apply_rot_embed_cat(patches, rope, half=True)], dim=2)


def split_windows(x: Tensor, window_size: int, fill: Tensor | None = None) -> Tensor:
    """Cut (B, h, w, D) into windows (B*n, s*s, D), padded at the bottom and right.

    The padded tokens take part in attention, as in the published plain-ViT detector.

    Args:
        fill: (D,) what every padded token is; None means zeros.
    """
    h, w = x.shape[1:3]
    fill = x.new_zeros(x.shape[-1]) if fill is None else fill.to(x.dtype)
    if right := -w % window_size:
        x = torch.cat([x, fill.expand(len(x), h, right, -1)], dim=2)
    if below := -h % window_size:
        x = torch.cat([x, fill.expand(len(x), below, x.shape[2], -1)], dim=1)
    x = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))  # (B, n, s, m, s, D)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def merge_windows(windows: Tensor, window_size: int, grid: tuple[int, int]) -> Tensor:
    """Undo `split_windows`: (B*n, s*s, D) to (B, h, w, D), with the padding cut off."""
    rows, cols = -(-grid[0] // window_size), -(-grid[1] // window_size)
    x = windows.unflatten(1, (window_size, window_size)).unflatten(0, (-1, rows, cols))
    x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, rows*s, cols*s, D)
    return x[:, : grid[0], : grid[1]]


def layer_norm(dims: int, eps: float = 1e-6) -> nn.LayerNorm:
    """LayerNorm, by default with the epsilon of all MAE-family ViTs."""
    return nn.LayerNorm(dims, eps=eps)


def init_transformer(module: nn.Module) -> None:
    """Xavier-uniform linear layers and patch embedding (seen as a matrix), zero biases.

    Source: MILAN and MAE pretraining recipe (see docs/pretrain.md).
    """
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
