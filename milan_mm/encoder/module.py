"""A pretrained encoder as a plain torch module: images in, named tokens out.

Shape letters as in `milan_mm/models/plain_vit.py`: B images, R registers, L = h*w patches, D width.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from milan_mm.encoder.images import Preprocess
from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import Encoder as Weights
from milan_mm.weights.exporting import write_encoder
from milan_mm.weights.statistics import Three, stats_values


class Tokens(NamedTuple):
    """What a block, or the whole encoder, makes of a batch of images.

    Attributes:
        cls_token: (B, D); for encoders without a class token None, and (B, 0) in `torch.jit.trace`.
        registers: (B, R, D); R is 0 for most encoders. DeiT's distillation token is one.
        patch_tokens: (B, L, D), row by row from the top left.
        feature_map: (B, D, h, w), the same values as `patch_tokens`.
    """

    cls_token: Tensor | None
    registers: Tensor
    patch_tokens: Tensor
    feature_map: Tensor


class Encoder(nn.Module):
    """A pretrained plain ViT, from `milan_mm.load_encoder`.

    Calling it takes images of any size whose sides are multiples of `patch_size`. Positions are
    resized to each image by the rule of the encoder's own system.

    Args:
        vit: The model, with its weights.
        weights: What is known about them; their tensors are not kept.

    Attributes:
        system: Where the weights are from, e.g. 'MAE'; a key of `milan_mm.weights.systems.SYSTEMS`.
        mean, std: Of R, G, B in 0-1, by which images must be normalised.
        img_size: (height, width) in pixels of the images that its positions are for.
        patch_size: Side of a patch in pixels.
        embed_dims: Width D.
        num_blocks, num_heads: Number of transformer blocks, and of attention heads in each.
        num_registers: R.
        has_cls_token: Whether there is a class token.
        pooling: 'cls', 'mean' or 'pool': which feature vector `features` gives.
    """

    mean: Three
    std: Three

    def __init__(self, vit: PlainViT, weights: Weights) -> None:
        super().__init__()
        self.vit = vit
        self.weights = replace(weights, state_dict={})  # the tensors are in `vit`
        self.system, self.pooling = weights.system, weights.pooling
        self.mean, self.std = stats_values(weights.stats)
        options = vit.options
        self.patch_size, self.embed_dims = vit.patch_size, vit.embed_dims
        self.img_size = (vit.grid_size[0] * vit.patch_size, vit.grid_size[1] * vit.patch_size)
        self.num_blocks, self.num_heads = vit.num_layers, options.num_heads
        self.num_registers, self.has_cls_token = options.num_registers, vit.with_cls_token
        self.preprocess = Preprocess(self.mean, self.std, self.img_size, self.patch_size)

    def forward(self, images: Tensor) -> Tokens:
        """Encode images, up to and with the final norm.

        Args:
            images: (B, 3, H, W) float, normalised by `mean` and `std`, see `preprocess`.

        Raises:
            UserError: For images of another shape or type, and if H or W is not a multiple of the
                patch size.
        """
        return self.intermediate(images, [-1])[0]

    def intermediate(
        self, images: Tensor, blocks: int | Sequence[int] = 1, norm: bool = True
    ) -> list[Tokens]:
        """What some of the blocks make of the images; blocks after the last of them do not run.

        Args:
            images: See `forward`.
            blocks: Their numbers, from 0; negative ones count from the end. A single number N
                stands for the last N blocks.
            norm: Apply the encoder's final norm to each, as `forward` does, if it has one.

        Returns:
            One entry per block, in the order in which they were given.

        Raises:
            UserError: See `forward`, and for blocks that the encoder does not have.
        """
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            self._check(images)
        wanted = self._numbers(blocks)
        found = self.vit.tokens_after(images, set(wanted))
        return [self._split(self.vit.ln1(found[i]) if norm else found[i], images) for i in wanted]

    def features(self, images: Tensor) -> Tensor:
        """One vector per image, pooled as the encoder's own system does for classification.

        The class token where `pooling` is 'cls'; what the encoder's own attention pooling makes of
        all tokens where it is 'pool' (SigLIP, PE); else the mean of the patch tokens, followed by
        the norm after pooling if the file has one.

        Args:
            images: See `forward`.

        Returns:
            (B, D).
        """
        tokens = self(images)
        if self.pooling == "cls" and tokens.cls_token is not None:
            return tokens.cls_token
        if self.pooling == "pool" and self.vit.options.with_pool:
            first = [] if tokens.cls_token is None else [tokens.cls_token[:, None]]
            whole = torch.cat([*first, tokens.registers, tokens.patch_tokens], dim=1)
            return self.vit.attn_pool(whole)
        pooled = tokens.patch_tokens.mean(dim=1)
        return self.vit.ln2(pooled) if self.vit.options.out_type == "avg_featmap" else pooled

    def save(self, path: str | Path) -> None:
        """Write the encoder as it is now, with all that is known of it, e.g. after a training.

        Args:
            path: Of the `.safetensors` file, for `load_encoder`, `--weights` and the exports; an
                existing one is replaced in one step.

        Raises:
            UserError: For positions of a grid that is not square, see `load_encoder(img_size=)`.
        """
        height, width = self.img_size
        if height != width:
            raise UserError(
                f"the encoder was loaded for images of {height}x{width}, and files hold positions "
                "of a square grid: load it without img_size to train and save it"
            )
        options = self.vit.options
        settings = dict(self.weights.settings, img_size=height)
        if options.rel_pos_bias_grid:
            settings["rel_pos_bias_grid"] = options.rel_pos_bias_grid
        if not options.with_pool:
            settings |= dict(pool_heads=0, pool_dims=None)
        tensors = {name: t.detach().cpu() for name, t in self.vit.state_dict().items()}
        write_encoder(replace(self.weights, state_dict=tensors, settings=settings), path)

    def extra_repr(self) -> str:
        """The facts that a user looks for first."""
        height, width = self.img_size
        return (
            f"{self.system}: {self.num_blocks} blocks of width {self.embed_dims}, {self.num_heads} "
            f"heads, patches of {self.patch_size} px, {height}x{width} px"
        )

    def _check(self, images: Tensor) -> None:
        """Outside of graphs, which would keep or warn of every comparison."""
        remedy = "give (B, 3, H, W) of floats, e.g. torch.stack([encoder.preprocess(picture)])"
        if not isinstance(images, Tensor):
            raise UserError(f"images are a {type(images).__name__}, not a tensor: {remedy}")
        if images.ndim != 4 or images.shape[1] != 3:
            raise UserError(f"images have the shape {tuple(images.shape)}: {remedy}")
        if not images.is_floating_point():
            raise UserError(f"images are {images.dtype}, not normalised: {remedy}")
        dtype = self.vit.patch_embed.projection.weight.dtype
        if images.dtype != dtype and not torch.is_autocast_enabled(images.device.type):
            raise UserError(
                f"images are {images.dtype}, the encoder is {dtype}: give images.to({dtype})"
            )

    def _numbers(self, blocks: int | Sequence[int]) -> list[int]:
        total = self.num_blocks
        if isinstance(blocks, int):
            if not 1 <= blocks <= total:
                raise UserError(f"blocks={blocks}: give 1..{total}, or a list of block numbers")
            return list(range(total - blocks, total))
        if wrong := [i for i in blocks if not -total <= i < total]:
            raise UserError(f"block {wrong[0]} is outside {-total}..{total - 1}")
        return [i % total for i in blocks]

    def _split(self, x: Tensor, images: Tensor) -> Tokens:
        first = int(self.has_cls_token)
        patches = x[:, first + self.num_registers :]
        grid = self.vit.grid_of(images)
        cls_token = x[:, 0] if self.has_cls_token else None
        if cls_token is None and torch.jit.is_tracing():  # which cannot give None
            cls_token = x[:, 0, :0]
        return Tokens(
            cls_token=cls_token,
            registers=x[:, first : first + self.num_registers],
            patch_tokens=patches,
            feature_map=patches.transpose(1, 2).unflatten(2, grid),
        )
