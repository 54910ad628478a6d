"""The transformer block of encoder and decoders: norms, attention, MLP, stochastic depth.

Shape letters as in `milan_mm/models/plain_vit.py`; N tokens attend to each other, P of them come
before the patches (class token and registers), s is the side of a window.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from milan_mm.errors import UserError
from milan_mm.models.activations import ACTIVATIONS
from milan_mm.models.attention import SelfAttention
from milan_mm.models.norms import build_norm
from milan_mm.models.patches import merge_windows, split_windows
from milan_mm.models.recompute import recompute_input


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
        act: Activation of the MLP, a key of `ACTIVATIONS`.
        norm_eps: Epsilon of all norms.
        norm: Their kind, see `build_norm`.
        qk_norm, attn_norm, mlp_norm: Further norms, see `ViTOptions`.
        mlp_dims: Width of the MLP inside; None is four times D.
        rope_halves: How rotary positions pair channels, see `RopeKind`.
        rope_anew: Rotary positions in windows are those of a window, see `RopeKind`.
        with_cp: Recompute the activations in the backward pass to save memory.
    """

    compiled_methods = ("forward",)

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
        norm: str = "LN",
        qk_norm: bool = False,
        attn_norm: bool = False,
        mlp_norm: bool = False,
        mlp_dims: int | None = None,
        rope_halves: bool = True,
        rope_anew: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.rope_anew = rope_anew
        self.with_cp = with_cp
        make_norm = partial(build_norm, eps=norm_eps, kind=norm)
        self.ln1 = make_norm(embed_dims)
        if rel_pos_grid and window_size:
            rel_pos_grid = (window_size, window_size)
        self.attn = SelfAttention(
            embed_dims,
            num_heads,
            rel_pos_grid,
            bias_grid,
            with_cls_token=num_prefix_tokens > 0,
            qk_norm=make_norm if qk_norm else None,
            inner_norm=make_norm if attn_norm else None,
            rope_halves=rope_halves,
        )
        self.drop_path = DropPath(drop_path_rate)
        self.ln2 = make_norm(embed_dims)
        self.ffn = FeedForward(embed_dims, act, mlp_dims, make_norm if mlp_norm else None)
        if layer_scale is not None:
            self.gamma_1 = nn.Parameter(torch.full((embed_dims,), layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((embed_dims,), layer_scale))
        self.with_layer_scale = layer_scale is not None

    def forward(
        self,
        x: Tensor,
        grid: tuple[int, int] | None = None,
        rope: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Attend and transform.

        Args:
            x: (B, N, D).
            grid: (h, w) of the patches, for windows and relative positions.
            rope: (h*w, 2D/A) sines and cosines of rotary positions, with `rope_anew` those of a
                window: (s*s, 2D/A).
            noise: (2, B) uniform in [0, 1), which decides on the branches to drop; None draws it.

        Returns:
            (B, N, D).

        Raises:
            UserError: With windows or relative positions, if there is no grid.
        """
        if self.with_cp and self.training:
            return checkpoint(self._forward, x, grid, rope, noise, use_reentrant=False)
        return self._forward(x, grid, rope, noise)

    def _forward(
        self,
        x: Tensor,
        grid: tuple[int, int] | None,
        rope: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        first, second = (None, None) if noise is None else noise.unbind()
        attended = recompute_input(self.ln1, partial(self._attend, grid=grid, rope=rope), x)
        if self.with_layer_scale:
            x = x + self.drop_path(self.gamma_1 * attended, first)
            return x + self.drop_path(self.gamma_2 * recompute_input(self.ln2, self.ffn, x), second)
        x = x + self.drop_path(attended, first)
        return x + self.drop_path(recompute_input(self.ln2, self.ffn, x), second)

    def _attend(self, x: Tensor, grid: tuple[int, int] | None, rope: Tensor | None) -> Tensor:
        size = self.window_size
        if not size:
            return self.attn(x, grid, rope)
        if grid is None:
            raise UserError("window attention needs all patches of the image, not a subset")
        # apply both linear layers to real patches only; a zero token's qkv is just the bias
        qkv = self.attn.qkv(x).unflatten(1, grid)
        windows = split_windows(qkv, size, fill=self.attn.qkv.bias)  # (B*n, s*s, 3D)
        if rope is not None and not self.rope_anew:
            rope = split_windows(rope.unflatten(0, grid)[None], size)  # (n, s*s, 2D/A)
            rope = rope.repeat(x.shape[0], 1, 1)[:, None]  # (B*n, 1, s*s, 2D/A)
        attended = self.attn.attend(windows, (size, size), rope)  # (B*n, s*s, D)
        return self.attn.proj(merge_windows(attended, size, grid).flatten(1, 2))


class FeedForward(nn.Module):
    """The MLP of a block: (B, N, D) to (B, N, D).

    The layers lie nested for the sake of their names, which are those of mmcv's `FFN`.

    Args:
        embed_dims: Width D.
        act: A key of `ACTIVATIONS`. For 'SwiGLU' the first layer is twice as wide.
        hidden_dims: Width inside; None is four times D.
        norm: Width to norm before the last layer; None leaves it out.

    Raises:
        UserError: For an unknown activation.
    """

    def __init__(
        self,
        embed_dims: int,
        act: str = "GELU",
        hidden_dims: int | None = None,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if act not in ACTIVATIONS:
            raise UserError(f"act '{act}' is unknown: choose from {sorted(ACTIVATIONS)}")
        hidden_dims = hidden_dims or 4 * embed_dims
        num_outputs = 2 * hidden_dims if act == "SwiGLU" else hidden_dims
        expand = nn.ModuleList([nn.Linear(embed_dims, num_outputs), ACTIVATIONS[act]()])
        self.layers = nn.ModuleList([expand, nn.Linear(hidden_dims, embed_dims)])
        self.with_norm = norm is not None
        if norm:
            self.norm = norm(hidden_dims)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        layers: Any = self.layers  # to mypy, a module within a ModuleList cannot be a list
        (expand, act), project = layers
        if self.with_norm:
            return recompute_input(self.norm, project, act(expand(x)))
        return recompute_input(act, project, expand(x))  # expand: (B, N, D) to (B, N, 4D)


class DropPath(nn.Module):
    """Stochastic depth as mmcv's, with the rate in a buffer.

    As a Python float the rate would be baked into the compiled graph, which would then serve one
    block only.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.drops = drop_prob > 0
        if self.drops:
            self.keep_prob: Tensor
            self.register_buffer("keep_prob", torch.tensor(1 - drop_prob), persistent=False)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Drop whole images in training, and scale the others up.

        Args:
            x: (B, ...).
            noise: (B,) uniform in [0, 1); None draws it, as mmcv does.
        """
        if not self.drops or not self.training:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        if noise is None:
            noise = torch.rand(shape, dtype=x.dtype, device=x.device)
        kept = (self.keep_prob + noise.view(shape)).floor().to(x.dtype)
        return x.div(self.keep_prob) * kept


def init_transformer(module: nn.Module) -> None:
    """Xavier-uniform linear layers and patch embedding (seen as a matrix), zero biases.

    Source: MILAN and MAE pretraining recipe (see docs/pretrain.md).
    """
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
