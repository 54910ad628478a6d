"""Decoders: from the encoder's output to a prediction for every token of the image.

Both take the encoded kept patches and return (B, 1+L, C) in image order, class token first.
Parameter names follow mmpretrain's pretraining decoders, which call `decoder_norm` `ln1`.
"""

from abc import abstractmethod
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.attention import attend
from milan_mm.models.block import EncoderLayer, FeedForward, init_transformer
from milan_mm.models.norms import layer_norm
from milan_mm.models.patches import gather_tokens
from milan_mm.models.positions import sincos_pos_embed
from milan_mm.models.recompute import recompute_input
from milan_mm.pretrain.masking import restore
from milan_mm.registry import MODELS

_IDENTITY = nn.Identity()


class PretrainDecoder(BaseModule):
    """What the decoders share: embedding, positions, mask token and prediction.

    Args:
        embed_dims: Encoder width D.
        grid_size: (h, w) of the patch grid.
        target_dims: Width C of the target.
        decoder_embed_dims: Decoder width E.
        num_layers: Number of blocks.
        num_heads: Attention heads.
    """

    compiled_methods = ("embed", "predict")

    def __init__(
        self,
        embed_dims: int,
        grid_size: tuple[int, int],
        target_dims: int,
        decoder_embed_dims: int = 512,
        num_layers: int = 8,
        num_heads: int = 16,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if decoder_embed_dims % num_heads:
            raise UserError(
                f"decoder_embed_dims {decoder_embed_dims} is not a multiple of {num_heads} heads"
            )
        self.embed_dims = embed_dims
        self.grid_size = (grid_size[0], grid_size[1])
        self.target_dims = target_dims
        self.decoder_embed = nn.Linear(embed_dims, decoder_embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dims))
        self.decoder_pos_embed = nn.Parameter(
            sincos_pos_embed(decoder_embed_dims, self.grid_size, with_cls_token=True),
            requires_grad=False,
        )
        self.decoder_blocks = nn.ModuleList(
            self._build_block(decoder_embed_dims, num_heads) for _ in range(num_layers)
        )
        self.decoder_norm = layer_norm(decoder_embed_dims)
        self.decoder_pred = nn.Linear(decoder_embed_dims, target_dims)
        self.apply(init_transformer)
        nn.init.normal_(self.mask_token, std=0.02)

    def embed(self, latent: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Known tokens (B, 1+K, E) and mask tokens (B, M, E), each with its position added."""
        pos_embed = self.decoder_pos_embed.expand(len(latent), -1, -1)  # (B, 1+L, E)
        ids_known = F.pad(ids_keep + 1, (1, 0))  # the class token is number 0
        known = self.decoder_embed(latent) + gather_tokens(pos_embed, ids_known)
        return known, self.mask_token + gather_tokens(pos_embed, ids_mask + 1)

    def predict(self, known: Tensor, masked: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """(B, 1+K, E) and (B, M, E) to the prediction (B, 1+L, C) in image order."""
        patches = restore(known[:, 1:], masked, ids_keep, ids_mask)
        tokens = torch.cat([known[:, :1], patches], dim=1)  # (B, 1+L, E)
        return recompute_input(self.decoder_norm, self.decoder_pred, tokens)

    @staticmethod
    @abstractmethod
    def _build_block(embed_dims: int, num_heads: int) -> nn.Module:
        """One of the `num_layers` blocks."""


@MODELS.register_module()
class PromptingDecoder(PretrainDecoder):
    """Updates the mask tokens only; the encoder's tokens are fixed prompts.

    In every block the mask tokens attend to the encoder's tokens and to themselves. The encoder's
    tokens are never updated, so their quality is the encoder's job alone (arXiv 2208.06049,
    "prompting decoder"). The prediction covers all tokens.
    """

    def forward(self, latent: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """Predict a target for every token.

        Args:
            latent: (B, 1+K, D) float, encoder output of the kept patches, class token first.
            ids_keep: (B, K) int64. ids_mask: (B, M) int64.

        Returns:
            (B, 1+L, C) float in image order.
        """
        prompts, masked = self.embed(latent, ids_keep, ids_mask)
        for block in self.decoder_blocks:
            masked = block(masked, prompts)
        return self.predict(prompts, masked, ids_keep, ids_mask)

    @staticmethod
    def _build_block(embed_dims: int, num_heads: int) -> nn.Module:
        return PromptingLayer(embed_dims, num_heads)


class PromptingLayer(nn.Module):
    """masked + Attention(ln1(masked); prompts and ln1(masked)), then + FFN(ln2(masked))."""

    compiled_methods = ("forward",)

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.ln1 = layer_norm(embed_dims)
        self.attn = PromptingAttention(embed_dims, num_heads)
        self.ln2 = layer_norm(embed_dims)
        self.ffn = FeedForward(embed_dims)

    def forward(self, masked: Tensor, prompts: Tensor) -> Tensor:
        """masked: (B, M, E), prompts: (B, 1+K, E). Returns: (B, M, E)."""
        masked = masked + recompute_input(self.ln1, partial(self.attn, prompts=prompts), masked)
        return masked + recompute_input(self.ln2, self.ffn, masked)


class PromptingAttention(nn.Module):
    """Queries from the mask tokens; keys and values from encoder tokens and mask tokens.

    The prompts enter keys and values without the LayerNorm that the mask tokens get. This asymmetry
    is part of the published method, and its weights depend on it. Keys need not be in image order,
    because attention ignores their order.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, embed_dims)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, masked: Tensor, prompts: Tensor) -> Tensor:
        """masked: (B, M, E), prompts: (B, 1+K, E). Returns: (B, M, E)."""
        q = self.q(masked).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, A, M, E/A)
        # Under autocast each block would otherwise keep its own rounded copy of the prompts.
        known = recompute_input(_IDENTITY, self.kv, prompts)
        kv = torch.cat([known, self.kv(masked)], dim=1)  # (B, 1+L, 2E), any order
        k, v = kv.unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = attend(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2))


@MODELS.register_module()
class MAEDecoder(PretrainDecoder):
    """Updates all tokens with self-attention, as MAE does (arXiv 2111.06377)."""

    def forward(self, latent: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """See `PromptingDecoder.forward`."""
        known, masked = self.embed(latent, ids_keep, ids_mask)
        x = torch.cat([known, masked], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.predict(x[:, : known.shape[1]], x[:, known.shape[1] :], ids_keep, ids_mask)

    @staticmethod
    def _build_block(embed_dims: int, num_heads: int) -> nn.Module:
        return EncoderLayer(embed_dims, num_heads)
