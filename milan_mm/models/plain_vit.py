"""PlainViT: the one encoder of this package.

Pretraining encodes the kept patches only, classification sees all of them, and detection and
segmentation ask for feature maps, with window attention where a 1024-pixel image needs it. One
weights file serves all of these: the parameters are the same everywhere and carry the names of
mmpretrain's `VisionTransformer`. The defaults are MILAN's encoder; the last options make it the
encoder of other systems, and `milan_mm.weights` sets them from a file.

Shape letters of this package: B batch, L patches = K kept + M masked, D encoder width, E decoder
width, C target width, A heads, H W image pixels, h w patch grid. The class token comes first, so
a full sequence is 1+L, and 1+R+L with R registers.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from mmengine.model import BaseModule
from timm.layers import RotaryEmbeddingDinoV3
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from milan_mm.errors import UserError
from milan_mm.models.layers import EncoderLayer, PatchEmbed, init_transformer, layer_norm, take
from milan_mm.models.positions import resize_pos_embed, sincos_pos_embed
from milan_mm.registry import MODELS

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
        norm_eps: Epsilon of every LayerNorm.
        act: Activation of the MLPs, 'GELU' or 'QuickGELU' (OpenAI's CLIP).
        patch_bias: Whether the patch embedding has a bias; CLIP's has none.
        pre_norm: LayerNorm of all tokens before the first block (CLIP).
        layer_scale: Initial factor on both branches of every block; None leaves it out.
        with_pos_embed: Whether there is a table of absolute positions; BEiT and DINOv3 have none.
        rel_pos_bias_grid: (h, w) of the pretraining gives every block BEiT's table of relative
            position biases; other grids are served by resizing it.
        num_registers: Number R of tokens between class token and patches (arXiv 2309.16588).
        rope_base: Base of DINOv3's rotary positions, 100 in its weights; None leaves them out.
        init_cfg: `dict(type='milan_mm.EncoderWeights', checkpoint=FILE)` loads pretrained weights
            strictly; None initialises from scratch.

    Raises:
        UserError: For sizes or options that contradict each other.
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
        norm_eps: float = 1e-6,
        act: str = "GELU",
        patch_bias: bool = True,
        pre_norm: bool = False,
        layer_scale: float | None = None,
        with_pos_embed: bool = True,
        rel_pos_bias_grid: int | tuple[int, int] | None = None,
        num_registers: int = 0,
        rope_base: float | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if isinstance(arch, str) and arch not in ARCHS:
            raise UserError(f"arch '{arch}' is unknown: choose from {sorted(ARCHS)} or give a dict")
        settings = ARCHS[arch] if isinstance(arch, str) else arch
        self.embed_dims: int = settings["embed_dims"]
        self.num_layers: int = settings["num_layers"]
        num_heads: int = settings["num_heads"]
        height, width = _pair(img_size)
        if height % patch_size or width % patch_size:
            nearest = tuple(round(side / patch_size) * patch_size for side in (height, width))
            raise UserError(
                f"img_size {(height, width)} is not a multiple of patch_size {patch_size}: "
                f"use {nearest}"
            )
        if self.embed_dims % num_heads:
            raise UserError(f"embed_dims {self.embed_dims} is not a multiple of {num_heads} heads")
        if out_type not in self.OUT_TYPES:
            raise UserError(f"out_type '{out_type}' is unknown: choose from {self.OUT_TYPES}")
        if out_type == "cls_token" and not with_cls_token:
            raise UserError("out_type 'cls_token' needs with_cls_token=True")
        self.num_prefix_tokens = int(with_cls_token) + num_registers
        if window_size and self.num_prefix_tokens:
            raise UserError(
                "window attention has no place for a class token or registers: "
                "with_cls_token=False, num_registers=0"
            )
        if rel_pos_grid and self.num_prefix_tokens:
            raise UserError(
                "relative positions have no place for a class token or registers: "
                "with_cls_token=False, num_registers=0"
            )
        if rel_pos_bias_grid and num_registers:
            raise UserError("a table of relative position biases has no entries for registers")
        kinds: dict[str, object] = dict(rel_pos_grid=rel_pos_grid)
        kinds |= dict(rel_pos_bias_grid=rel_pos_bias_grid, rope_base=rope_base)
        if len(given := [name for name, value in kinds.items() if value]) > 1:
            raise UserError(f"{' and '.join(given)} exclude each other: keep one of them")
        self.patch_size = patch_size
        self.grid_size = (height // patch_size, width // patch_size)  # (h, w)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.out_type = out_type
        self.out_indices = _resolve_indices(out_indices, self.num_layers)
        self.with_cls_token = with_cls_token
        self.with_pos_embed = with_pos_embed
        self.num_registers = num_registers
        self.rope_base = rope_base
        self.frozen = frozen

        self.patch_embed = PatchEmbed(patch_size, self.embed_dims, bias=patch_bias)
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        if num_registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, num_registers, self.embed_dims))
        if with_pos_embed:
            self.pos_embed = nn.Parameter(
                sincos_pos_embed(self.embed_dims, self.grid_size, with_cls_token),
                requires_grad=not fixed_pos_embed,
            )
        self.pre_norm = layer_norm(self.embed_dims, norm_eps) if pre_norm else nn.Identity()
        if rope_base:
            self.rope = RotaryEmbeddingDinoV3(self.embed_dims // num_heads, temperature=rope_base)
        global_layers = _resolve_indices(global_layers, self.num_layers)
        drop_path_rates = np.linspace(0, drop_path_rate, self.num_layers).tolist()
        self.needs_grid = bool(window_size or rel_pos_grid or rel_pos_bias_grid or rope_base)
        self.layers = nn.ModuleList(
            EncoderLayer(
                self.embed_dims,
                num_heads,
                drop_path_rate=drop_path_rates[i],
                window_size=0 if i in global_layers else window_size,
                rel_pos_grid=_pair(rel_pos_grid) if rel_pos_grid else None,
                bias_grid=_pair(rel_pos_bias_grid) if rel_pos_bias_grid else None,
                num_prefix_tokens=self.num_prefix_tokens,
                layer_scale=layer_scale,
                act=act,
                norm_eps=norm_eps,
                with_cp=with_cp,
            )
            for i in range(self.num_layers)
        )
        self.ln1 = layer_norm(self.embed_dims, norm_eps) if final_norm else nn.Identity()
        if out_type == "avg_featmap":
            self.ln2 = layer_norm(self.embed_dims, norm_eps)
        self.apply(init_transformer)
        if with_cls_token:
            nn.init.normal_(self.cls_token, std=0.02)
        if num_registers:
            nn.init.normal_(self.register_tokens, std=0.02)
        if frozen:
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, or stay in eval mode when frozen."""
        return super().train(mode and not self.frozen)

    def embed(self, imgs: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Cut images into patches and embed them with their positions.

        Args:
            imgs: (B, 3, H, W) float, normalised. H and W must be multiples of the patch size.
            ids_keep: (B, K) int64, the patches to embed; None means all.

        Returns:
            (B, K, D) float in the order of `ids_keep`, or (B, L, D) in row-major order; without
            the class token.
        """
        x = self.patch_embed(imgs, ids_keep)
        if not self.with_pos_embed:
            return x
        grid = self._grid(imgs)
        pos_embed = resize_pos_embed(self.pos_embed, self.grid_size, grid)
        pos_embed = pos_embed[:, -grid[0] * grid[1] :]  # (1, L, D)
        if ids_keep is not None:
            pos_embed = take(pos_embed.expand(len(x), -1, -1), ids_keep)
        return x + pos_embed

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode any subset of embedded patches together with the class token.

        Args:
            tokens: (B, K, D) float from `embed`; the order does not matter.

        Returns:
            (B, 1+K, D) float, class token first, then registers.

        Raises:
            UserError: When the encoder has windows or relative positions, which need all patches.
        """
        if self.needs_grid:
            raise UserError(
                "encode() takes any subset of patches; windows and relative or rotary positions "
                "need all of the image: call the encoder itself"
            )
        x = self._prepend_tokens(tokens)
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
        grid = self._grid(imgs)
        x = self._prepend_tokens(self.embed(imgs))
        rope = self.rope.get_embed(list(grid)) if self.rope_base else None  # (h*w, 2D/A)
        outs = []
        for i, layer in enumerate(self.layers):
            x = layer(x, grid, rope)
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
        tokens = ("cls_token", "register_tokens", "pos_embed")
        if name in tokens or name.startswith(("patch_embed.", "pre_norm.")):
            return 0, num_depths
        if name.startswith("layers."):
            return int(name.split(".")[1]) + 1, num_depths
        return num_depths - 1, num_depths

    def _grid(self, imgs: Tensor) -> tuple[int, int]:
        return imgs.shape[-2] // self.patch_size, imgs.shape[-1] // self.patch_size

    def _prepend_tokens(self, tokens: Tensor) -> Tensor:
        """(B, K, D) to (B, [1+][R+]K, D), through `pre_norm`."""
        if self.num_registers:
            registers = self.register_tokens.expand(len(tokens), -1, -1)
            tokens = torch.cat([registers, tokens], dim=1)
        if self.with_cls_token:
            place = self.pos_embed[:, :1] if self.with_pos_embed else 0
            cls_token = (self.cls_token + place).expand(len(tokens), -1, -1)
            tokens = torch.cat([cls_token, tokens], dim=1)
        return self.pre_norm(tokens)

    def _format(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.out_type == "raw":
            return x
        if self.out_type == "cls_token":
            return x[:, 0]
        patches = x[:, self.num_prefix_tokens :]
        if self.out_type == "avg_featmap":
            return self.ln2(patches.mean(dim=1))
        return patches.transpose(1, 2).unflatten(2, grid)  # (B, D, h, w)


def _resolve_indices(indices: Sequence[int], num_layers: int) -> tuple[int, ...]:
    for i in indices:
        if not -num_layers <= i < num_layers:
            raise UserError(f"block index {i} is outside {-num_layers}..{num_layers - 1}")
    return tuple(i % num_layers for i in indices)
