"""Multi-head self-attention, with or without positions in it.

Shape letters as in `milan_mm/models/plain_vit.py`; N tokens attend to each other, d = D/A.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from milan_mm.errors import UserError
from milan_mm.models.cpu_attention import attend_in_chunks
from milan_mm.models.free_sizes import are_known, in_graph
from milan_mm.models.relative_bias import bias_table_size, look_up_bias
from milan_mm.models.relative_positions import attend_with_rel_pos
from milan_mm.torch_private import has_cpu_attention

# Up to this number of keys, GPUs use the kernel with the smallest tiles: the others pad the keys.
SHORT_KEYS = 64
_SHORT_ORDER = [
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.MATH,
]


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens that are passed in.

    Args:
        embed_dims, num_heads: Width D and heads A.
        rel_pos_grid: (h, w) of the patches for which there are decomposed relative positions.
        bias_grid: (h, w) of a table of relative position biases.
        with_cls_token: Whether the bias table has entries for a class token.
        qk_norm: Width to norm of the queries and keys of each head; None leaves them as they are.
        inner_norm: Width to norm of what the heads attended to, before the last linear layer.
        rope_halves: How rotary positions pair channels, see `RopeKind`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        rel_pos_grid: tuple[int, int] | None = None,
        bias_grid: tuple[int, int] | None = None,
        with_cls_token: bool = False,
        qk_norm: Callable[[int], nn.Module] | None = None,
        inner_norm: Callable[[int], nn.Module] | None = None,
        rope_halves: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.bias_grid = bias_grid
        self.with_cls_token = with_cls_token
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.rope_halves = rope_halves
        self.with_qk_norm, self.with_inner_norm = qk_norm is not None, inner_norm is not None
        if qk_norm:
            self.q_norm, self.k_norm = (qk_norm(embed_dims // num_heads) for _ in range(2))
        if inner_norm:
            self.norm = inner_norm(embed_dims)
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
            rope: ([B, 1,] h*w, 2d) sines and cosines of rotary positions.

        Returns:
            (B, N, D).

        Raises:
            UserError: With relative positions, if there is no grid.
        """
        return self.proj(self.attend(self.qkv(x), grid, rope))

    def attend(
        self, qkv: Tensor, grid: tuple[int, int] | None = None, rope: Tensor | None = None
    ) -> Tensor:
        """The part between the two linear layers: (B, N, 3D) to (B, N, D)."""
        # (B, N, 3, A, d) to three times (B, A, N, d)
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        if self.with_qk_norm:  # of other type than the values under autocast
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        if rope is not None:
            q, k = (rotate(each, rope, self.rope_halves) for each in (q, k))
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
        x = x.transpose(1, 2).flatten(2)  # (B, N, D)
        return self.norm(x) if self.with_inner_norm else x

    def class_attention(
        self, x: Tensor, grid: tuple[int, int] | None = None, rope: Tensor | None = None
    ) -> Tensor:
        """How much of its attention the first token gives to each token, in `forward`.

        Args:
            x, grid, rope: See `forward`.

        Returns:
            (B, A, N) float32; the last dimension sums to 1.

        Raises:
            UserError: With decomposed relative positions, which are for detectors without class
                token; with a table of biases, if there is no grid.
        """
        w_q, w_k, _ = self.qkv.weight.chunk(3)
        b_q, b_k, _ = self.qkv.bias.chunk(3)
        # of the queries, only the first token's is computed
        q = F.linear(x[:, :1], w_q, b_q).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k = F.linear(x, w_k, b_k).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, A, N, d)
        if self.with_qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            k = rotate(k, rope, self.rope_halves)  # a token before the patches has no place
        logits = (q @ k.transpose(2, 3)).float() / q.shape[-1] ** 0.5  # (B, A, 1, N)
        if self.with_rel_pos:
            raise UserError("class attention is not defined with decomposed relative positions")
        if self.bias_grid is not None:
            if grid is None:
                raise UserError("relative positions need all patches of the image, not a subset")
            table = self.relative_position_bias_table
            bias = look_up_bias(table, self.bias_grid, grid, self.with_cls_token)  # (A, N, N)
            logits = logits + bias[None, :, :1].float()
        return logits.softmax(dim=-1)[:, :, 0]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·k / sqrt(d)) v with the fastest available kernel.

    Args:
        q: (B, A, M, d). k, v: (B, A, N, d).

    Returns:
        (B, A, M, d).
    """
    trains_on_cpu = q.device.type == "cpu" and q.requires_grad and not in_graph()
    if trains_on_cpu and q.dtype == torch.bfloat16 and has_cpu_attention():
        return attend_in_chunks(q, k, v)
    if q.device.type == "cuda" and are_known(k.shape[2]) and k.shape[2] <= SHORT_KEYS:
        # without its keyword: torch 2.7 cannot compile `sdpa_kernel(backends=...)`
        with sdpa_kernel(_SHORT_ORDER, set_priority=True):
            return F.scaled_dot_product_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def rotate(x: Tensor, rope: Tensor, halves: bool = True) -> Tensor:
    """Rotate the patches of queries or keys by their places (arXiv 2104.09864).

    Args:
        x: (B, A, N, d) float; the tokens before the patches stay as they are.
        rope: ([B, 1,] h*w, 2d) sines and cosines.
        halves: How channels are paired, see `RopeKind`.

    Returns:
        (B, A, N, d), in the type of `x`.
    """
    num_prefix = x.shape[2] - rope.shape[-2]
    prefix, patches = x.split([num_prefix, rope.shape[-2]], dim=2)
    return torch.cat([prefix, apply_rot_embed_cat(patches, rope, half=halves)], dim=2)
