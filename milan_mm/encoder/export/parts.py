"""What an encoder consists of, and saying which part a format does not have."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.encoder import Encoder as Weights
from milan_mm.weights.statistics import Three, stats_values
from milan_mm.weights.systems import SYSTEMS

# An encoder's `act` -> its name in timm, and in Hugging Face's `hidden_act`.
TIMM_ACTS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu"}
HF_ACTS = {"GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh", "QuickGELU": "quick_gelu"}


@dataclass(frozen=True)
class Parts:
    """An encoder to be written, part by part.

    Attributes:
        source: Its file, for messages.
        tensors: By name in `PlainViT`.
        settings: Of `PlainViT`, complete.
        embed_dims, num_layers, num_heads: D, blocks, A.
        img_size, patch_size: In pixels.
        mean, std: Of R, G, B in 0-1.
        pooling: 'cls', 'mean' or 'pool'.
        timm_name: How timm's names call the system; '' where it has none.
    """

    source: str
    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    embed_dims: int
    num_layers: int
    num_heads: int
    img_size: int
    patch_size: int
    mean: Three
    std: Three
    pooling: str
    timm_name: str

    @classmethod
    def of(cls, weights: Weights) -> "Parts":
        """Those of an encoder that was read.

        Raises:
            UserError: When its heads or its image size are unknown.
        """
        weights.model_settings()
        settings, (mean, std) = weights.settings, stats_values(weights.stats)
        return cls(
            source=weights.source,
            tensors=dict(weights.state_dict),
            settings=settings,
            **settings["arch"],
            img_size=settings["img_size"],
            patch_size=settings["patch_size"],
            mean=mean,
            std=std,
            pooling=weights.pooling,
            timm_name=SYSTEMS[weights.system].timm_name or "",
        )

    @property
    def has_cls_token(self) -> bool:
        """Whether there is a class token."""
        return "cls_token" in self.tensors

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last block."""
        return "ln1.weight" in self.tensors

    @property
    def has_pooled_norm(self) -> bool:
        """Whether a norm follows the pooling."""
        return "ln2.weight" in self.tensors

    @property
    def has_layer_scale(self) -> bool:
        """Whether both branches of every block are scaled."""
        return "layers.0.gamma_1" in self.tensors

    @property
    def has_key_bias(self) -> bool:
        """Whether some key bias is not zero."""
        names = [name for name in self.tensors if name.endswith(".attn.qkv.bias")]
        return any(bool(self.tensors[name].chunk(3)[1].any()) for name in names)

    @property
    def mlp_dims(self) -> int:
        """Width of the MLPs inside."""
        return self.settings["mlp_dims"] or 4 * self.embed_dims

    @property
    def pool_dims(self) -> int:
        """Width of the MLP after an attention pooling."""
        return self.settings["pool_dims"] or 4 * self.embed_dims

    @property
    def num_registers(self) -> int:
        """Registers R."""
        return self.settings["num_registers"]

    def refuse(self, target: str, unlike: dict[str, bool]) -> None:
        """Refuse a format for what it does not have, naming the first such part, without a remedy.

        Args:
            target: The format's class.
            unlike: Sentence on a part -> whether the encoder has it.

        Raises:
            UserError: When it has one.
        """
        part = next((sentence for sentence, there in unlike.items() if there), None)
        if part:
            raise UserError(f"{self.source}: {target} cannot hold this encoder: {part}")

    @property
    def newer(self) -> dict[str, bool]:
        """Sentence on a part that few classes elsewhere have -> whether it is there."""
        settings = self.settings
        rope = settings["rope_base"] and settings["rope_kind"] != "dinov3"
        return {
            "a SwiGLU": settings["act"] == "SwiGLU",
            "RMSNorms": settings["norm"] == "RMS",
            "a norm of the patches": settings["patch_norm"],
            "norms of queries and keys": settings["qk_norm"],
            "norms inside of attention or MLPs": settings["attn_norm"] or settings["mlp_norm"],
            "rotary positions that are not DINOv3's": bool(rope),
        }

    @property
    def beside(self) -> dict[str, bool]:
        """Sentence on a part that no class elsewhere has beside rotary or relative positions."""
        is_rotary, has_table = bool(self.settings["rope_base"]), self.settings["with_pos_embed"]
        return {
            "a position table besides rotary positions": is_rotary and has_table,
            "a norm before the first block": self.settings["pre_norm"],
        }

    def without(self, *names: str) -> "Parts":
        """Without some tensors."""
        kept = {n: t for n, t in self.tensors.items() if not n.startswith(names)}
        return replace(self, tensors=kept)

    def with_layer_scale(self) -> "Parts":
        """With factors of 1 where there is no layer scale, which change nothing."""
        if self.has_layer_scale:
            return self
        ones = {
            f"layers.{i}.gamma_{j}": torch.ones(self.embed_dims)
            for i in range(self.num_layers)
            for j in (1, 2)
        }
        return replace(self, tensors=self.tensors | ones)

    def with_patch_bias(self) -> "Parts":
        """With a bias of 0 where the patch embedding has none, which changes nothing."""
        name = "patch_embed.projection.bias"
        if name in self.tensors:
            return self
        return replace(self, tensors=self.tensors | {name: torch.zeros(self.embed_dims)})

    def with_class_position_in_token(self) -> "Parts":
        """The class token's position added to the token, and taken out of the table."""
        table = self.tensors["pos_embed"]
        if not self.has_cls_token:
            return self
        moved = dict(cls_token=self.tensors["cls_token"] + table[:, :1], pos_embed=table[:, 1:])
        return replace(self, tensors=self.tensors | moved)
