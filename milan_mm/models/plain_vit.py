"""PlainViT: the one encoder of this package.

Pretraining encodes the kept patches only, classification sees all of them, and detection and
segmentation ask for feature maps, with window attention where a 1024-pixel image needs it. One
weights file serves all of these: the parameters are the same everywhere and carry the names of
mmpretrain's `VisionTransformer`. By default it is MILAN's encoder; the last of its options
(`vit_options.WEIGHT_OPTIONS`) make it the encoder of other systems, and `milan_mm.weights` sets
them from a file.

Shape letters of this package: B batch, L patches = K kept + M masked, D encoder width, E decoder
width, C target width, A heads, H W image pixels, h w patch grid. The class token comes first, so
a full sequence is 1+L, and 1+R+L with R registers.
"""

from collections.abc import Collection, Sequence
from typing import Any, Self

import numpy as np
import torch
from mmengine.model import BaseModule
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.activations import ACTIVATIONS
from milan_mm.models.block import EncoderLayer, init_transformer
from milan_mm.models.norms import RMSNorm, build_norm
from milan_mm.models.patches import PatchEmbed, gather_tokens
from milan_mm.models.positions import (
    ROPE_KINDS,
    build_rope,
    resize_pos_embed,
    rotary_embed,
    sincos_pos_embed,
)
from milan_mm.models.randomness import in_run, numbers_of_images
from milan_mm.models.vit_options import ViTOptions, pair
from milan_mm.registry import MODELS

TOKENS = ("cls_token", "register_tokens", "pos_embed")  # parameters next to the patch embedding


@MODELS.register_module()
class PlainViT(BaseModule):
    """Pre-norm Vision Transformer without hierarchy (arXiv 2010.11929; dense use 2203.16527).

    Args:
        args, options: The fields of `ViTOptions`, by position or by name.
        init_cfg: `dict(type='milan_mm.EncoderWeights', checkpoint=FILE)` loads pretrained weights
            strictly; None initialises from scratch.

    Attributes:
        options: All of them, as a `ViTOptions`.
        out_indices: Of the blocks whose output `forward` returns, from 0 and in order.

    Raises:
        UserError: For sizes or options that contradict each other.
    """

    compiled_methods = ("embed",)

    def __init__(self, *args: Any, init_cfg: dict | None = None, **options: Any) -> None:
        super().__init__(init_cfg=init_cfg)
        self.options = given = ViTOptions(*args, **options)
        self.embed_dims, self.num_layers = given.embed_dims, given.num_layers
        self.patch_size, self.grid_size = given.patch_size, given.grid_size
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.with_cls_token = given.with_cls_token
        self.num_prefix_tokens = given.num_prefix_tokens
        self.out_indices = tuple(sorted({i % self.num_layers for i in given.out_indices}))

        norm = self._norm() if given.patch_norm else None
        self.patch_embed = PatchEmbed(self.patch_size, self.embed_dims, given.patch_bias, norm)
        self._add_tokens_and_positions()
        self.pre_norm = self._norm() if given.pre_norm else nn.Identity()
        self.layers = self._build_layers()
        self.ln1 = self._norm() if given.final_norm else nn.Identity()
        if given.out_type == "avg_featmap":
            self.ln2 = self._norm()
        if given.with_pool:
            self.attn_pool = self._build_pool()
        self.apply(init_transformer)
        if self.with_cls_token:
            nn.init.normal_(self.cls_token, std=0.02)
        if given.num_registers:
            nn.init.normal_(self.register_tokens, std=0.02)
        if given.frozen:
            self.requires_grad_(False)
        self._freeze_stages()

    def train(self, mode: bool = True) -> Self:
        """Switch to training; what is frozen stays in eval mode."""
        super().train(mode and not self.options.frozen)
        for part in self._frozen_parts():
            part.eval()
        return self

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
        if not self.options.with_pos_embed:
            return x
        grid = self.grid_of(imgs)
        rule = self.options.resize_rule
        pos_embed = resize_pos_embed(self.pos_embed, self.grid_size, grid, rule)
        pos_embed = pos_embed[:, int(self.with_cls_token) :]  # (1, L, D)
        if ids_keep is not None:
            pos_embed = gather_tokens(pos_embed.expand(x.shape[0], -1, -1), ids_keep)
        return x + pos_embed

    def encode(self, tokens: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode any subset of embedded patches together with the class token.

        Args:
            tokens: (B, K, D) float from `embed`; the order does not matter.
            ids_keep: (B, K) int64, the patches that they are, of images of `grid_size`. Only
                rotary positions read them; None means all of them in row-major order.

        Returns:
            `(B, [1+][R+]K, D)` float, class token first, then registers.

        Raises:
            UserError: When the encoder has windows or relative positions, which need all patches,
                or rotary positions and nobody says which patches these are.
        """
        if self.options.needs_grid:
            raise UserError(
                "encode() takes any subset of patches; windows and relative positions need all of "
                "the image: call the encoder itself"
            )
        rope = self.rotary(self.grid_size)
        if rope is not None and ids_keep is not None:
            rope = rope[ids_keep].unsqueeze(1)  # (B, 1, K, 2D/A)
        elif rope is not None and len(rope) != tokens.shape[1]:
            raise UserError(
                f"encode() has {tokens.shape[1]} of {len(rope)} patches, and rotary positions need "
                "their numbers: pass ids_keep"
            )
        x = self._prepend_tokens(tokens)
        for layer, noise in zip(self.layers, self._drop_noise(x), strict=True):
            x = layer(x, rope=rope, noise=noise)
        return self.ln1(x)

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Encode all patches.

        Args:
            imgs: (B, 3, H, W) float, normalised.

        Returns:
            One tensor per entry of `out_indices`, shaped as `out_type` says. The last block's
            output is normalised when `final_norm` is set, earlier ones never are.
        """
        grid, last = self.grid_of(imgs), self.num_layers - 1
        tokens = self.tokens_after(imgs, self.out_indices)
        return tuple(self._format(self.ln1(x) if i == last else x, grid) for i, x in tokens.items())

    def tokens_after(self, imgs: Tensor, blocks: Collection[int]) -> dict[int, Tensor]:
        """Encode all patches up to the last of some blocks; later blocks do not run.

        Args:
            imgs: (B, 3, H, W) float, normalised.
            blocks: Their numbers, from 0.

        Returns:
            Block -> `(B, [1+][R+]L, D)`, the output of the block without the final norm.
        """
        grid = self.grid_of(imgs)
        x = self._prepend_tokens(self.embed(imgs))
        rope, in_window = self.rotary(grid), self._rotary_in_window()
        tokens, noise = {}, self._drop_noise(x)
        for i in range(max(blocks, default=-1) + 1):
            layer: Any = self.layers[i]
            x = layer(x, grid, in_window if layer.rope_anew else rope, noise[i])
            if i in blocks:
                tokens[i] = x
        return tokens

    def rotary(self, grid: tuple[int, int]) -> Tensor | None:
        """Sines and cosines (h*w, 2D/A) of a grid of patches; None without rotary positions."""
        return rotary_embed(self.rope, grid) if self.options.rope_base else None

    def _rotary_in_window(self) -> Tensor | None:
        """Those of a window that is numbered anew (s*s, 2D/A); None where there is none."""
        size = self.options.window_size
        anew = ROPE_KINDS[self.options.rope_kind].anew_in_windows
        return self.rotary((size, size)) if size and anew else None

    def grid_of(self, imgs: Tensor) -> tuple[int, int]:
        """(h, w) in patches of images (B, 3, H, W)."""
        return imgs.shape[-2] // self.patch_size, imgs.shape[-1] // self.patch_size

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rates (mmpretrain's convention).

        Returns:
            (depth, num_depths): 0 for the embedding, i+1 for block i, num_depths-1 for all else.
        """
        num_depths = self.num_layers + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return num_depths - 1, num_depths
        if name in TOKENS or name.startswith(("patch_embed.", "pre_norm.")):
            return 0, num_depths
        if name.startswith("layers."):
            return int(name.split(".")[1]) + 1, num_depths
        return num_depths - 1, num_depths

    def _add_tokens_and_positions(self) -> None:
        options, dims = self.options, self.embed_dims
        if options.with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dims))
        if options.num_registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, options.num_registers, dims))
        if options.with_pos_embed:
            self.pos_embed = nn.Parameter(
                sincos_pos_embed(dims, self.grid_size, options.with_cls_token),
                requires_grad=not options.fixed_pos_embed,
            )
        if base := options.rope_base:
            grid = pair(options.rope_grid) if options.rope_grid else None
            self.rope = build_rope(options.rope_kind, dims // options.num_heads, base, grid)

    def _freeze_stages(self) -> None:
        """Take the gradients of what `frozen_stages` says."""
        for part in self._frozen_parts():
            part.requires_grad_(False)
        if self.options.frozen_stages >= 0:
            for name in TOKENS:
                if hasattr(self, name):
                    getattr(self, name).requires_grad_(False)

    def _frozen_parts(self) -> list[nn.Module]:
        count = self.options.frozen_stages
        if count < 0:
            return []
        parts = [self.patch_embed, self.pre_norm, *self.layers[:count]]
        if count == self.num_layers:
            after = ("ln1", "ln2", "attn_pool")
            parts += [getattr(self, name) for name in after if hasattr(self, name)]
        return parts

    def _build_layers(self) -> nn.ModuleList:
        options = self.options
        global_layers = {i % self.num_layers for i in options.global_layers}
        rel_pos_grid, bias_grid = options.rel_pos_grid, options.rel_pos_bias_grid
        kind = ROPE_KINDS[options.rope_kind]
        rates = np.linspace(0, options.drop_path_rate, self.num_layers).tolist()
        sizes = [0 if i in global_layers else options.window_size for i in range(self.num_layers)]
        return nn.ModuleList(
            EncoderLayer(
                self.embed_dims,
                options.num_heads,
                drop_path_rate=drop_path_rate,
                window_size=size,
                rel_pos_grid=pair(rel_pos_grid) if rel_pos_grid else None,
                bias_grid=pair(bias_grid) if bias_grid else None,
                num_prefix_tokens=self.num_prefix_tokens,
                layer_scale=options.layer_scale,
                act=options.act,
                norm_eps=options.norm_eps,
                norm=options.norm,
                qk_norm=options.qk_norm,
                attn_norm=options.attn_norm,
                mlp_norm=options.mlp_norm,
                mlp_dims=options.hidden_dims,
                rope_halves=kind.halves,
                rope_anew=kind.anew_in_windows and bool(size),
                with_cp=options.with_cp,
            )
            for drop_path_rate, size in zip(rates, sizes, strict=True)
        )

    def _build_pool(self) -> AttentionPoolLatent:
        """SigLIP's pooling: a learned query attends to the tokens, then an MLP follows."""
        options, dims = self.options, self.embed_dims
        layers: dict[str, Any] = dict(  # functions where timm's types say classes
            norm_layer=lambda size, **_: build_norm(size, options.norm_eps, options.norm),
            act_layer=ACTIVATIONS[options.act],
        )
        ratio = ((options.pool_dims or 4 * dims) + 0.5) / dims  # which timm rounds down
        return AttentionPoolLatent(dims, num_heads=options.pool_heads, mlp_ratio=ratio, **layers)

    def _norm(self) -> nn.LayerNorm | RMSNorm:
        return build_norm(self.embed_dims, self.options.norm_eps, self.options.norm)

    def _prepend_tokens(self, tokens: Tensor) -> Tensor:
        """(B, K, D) to `(B, [1+][R+]K, D)`, through `pre_norm`."""
        if self.options.num_registers:
            registers = self.register_tokens.expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([registers, tokens], dim=1)
        if self.with_cls_token:
            place = self.pos_embed[:, :1] if self.options.with_pos_embed else 0
            cls_token = (self.cls_token + place).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([cls_token, tokens], dim=1)
        return self.pre_norm(tokens)

    def _drop_noise(self, x: Tensor) -> Sequence[Tensor | None]:
        """For each block what decides on the images whose branches are dropped, see `EncoderLayer`.

        None where nothing is dropped; outside of a run, blocks draw it themselves.
        """
        if not self.training or not self.options.drop_path_rate or not in_run():
            return [None] * self.num_layers
        noise = numbers_of_images(Tensor.uniform_, len(x), 2 * self.num_layers, x.device, 1)
        return noise.T.unflatten(0, (self.num_layers, 2)).contiguous().unbind()  # (2, B) each

    def _format(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.options.out_type == "raw":
            return x
        if self.options.out_type == "cls_token":
            return x[:, 0]
        if self.options.out_type == "attn_pool":
            return self.attn_pool(x)
        patches = x[:, self.num_prefix_tokens :]
        if self.options.out_type == "avg_featmap":
            return self.ln2(patches.mean(dim=1))
        return patches.transpose(1, 2).unflatten(2, grid)  # (B, D, h, w)
