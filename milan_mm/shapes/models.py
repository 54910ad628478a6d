"""The tiny CLIP and the tiny SLIP of the demo as models of open_clip, and their files."""

import json
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn import functional as F

from milan_mm.models.positions import sincos_pos_embed
from milan_mm.pretrain.clip_training import STATS, create_clip, encode_tokens
from milan_mm.pretrain.teacher import Teacher
from milan_mm.pretrain.teacher_clip import CLIPTeacher, model_config
from milan_mm.pretrain.teacher_timm import SHIPPED_TOWERS, TimmTeacher
from milan_mm.shapes.captions import encode_caption
from milan_mm.weights.names import ASSETS
from milan_mm.weights.reading import read_checkpoint

CLIP, SLIP = "shapes-clip", "shapes-slip"
SLIP_TOWER = "vit_shapes_patch8_96"
# Fixed sine-cosines, which belong to the image size and not to what was learnt.
POSITIONS = ("visual.positional_embedding", "visual.pos_embed")


class TinySLIP(open_clip.CLIP):
    """open_clip's model with the image tower of SLIP's authors: timm's ViT, then a projection.

    Names of weights are those of the authors' files.
    """

    def __init__(self, image_size: int = 96, patch_dropout: float = 0.0) -> None:
        config = json.loads((ASSETS / f"{SLIP}.json").read_text())
        dims = config["embed_dim"]
        # the image tower of the tiny CLIP is built and replaced
        super().__init__(dims, model_config(CLIP)["vision_cfg"], config["text_cfg"])
        settings = dict(img_size=image_size, patch_drop_rate=patch_dropout)
        self.visual = tower = VisionTransformer(**(SHIPPED_TOWERS[SLIP_TOWER] | settings))
        table = sincos_pos_embed(tower.embed_dim, tower.patch_embed.grid_size, with_cls_token=True)
        tower.pos_embed = nn.Parameter(table, requires_grad=False)
        self.image_projection = nn.Parameter(torch.randn(tower.embed_dim, dims) / dims**0.5)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """(B, 3, H, W) to (B, C)."""
        features = self.visual(image) @ self.image_projection
        return F.normalize(features, dim=-1) if normalize else features


def create(name: str, image_size: int = 96, patch_dropout: float = 0.0) -> open_clip.CLIP:
    """A model with random weights and fixed sine-cosine positions; image_size in pixels."""
    if name == SLIP:
        return TinySLIP(image_size, patch_dropout)
    return create_clip(CLIP, image_size, patch_dropout)


def fill(model: open_clip.CLIP, weights: Mapping[str, Tensor]) -> open_clip.CLIP:
    """Load weights of any image size in place; the model keeps its positions."""
    positions = {n: t for n, t in model.state_dict().items() if n in POSITIONS}
    model.load_state_dict({n: t for n, t in weights.items() if n not in POSITIONS} | positions)
    return model


def shipped_clip_in_timm() -> dict[str, Tensor]:
    """The shipped CLIP under the names of the tiny SLIP."""
    clip = read_checkpoint(ASSETS / "shapes_clip.safetensors")
    tower = checkpoint_filter_fn(clip, create(SLIP).visual)
    projection = tower.pop("head.weight")
    tower.pop("head.bias")  # of timm's making, zero
    weights = {name: tensor for name, tensor in clip.items() if not name.startswith("visual.")}
    weights |= {f"visual.{name}": tensor for name, tensor in tower.items()}
    return weights | dict(image_projection=projection.T)


def load(name: str, path: Path) -> open_clip.CLIP:
    """The whole model, for images of 96 pixels, from a file that `save_clip` wrote."""
    model = create(name)
    model.load_state_dict(read_checkpoint(path))
    return model.eval()


def load_teacher(name: str, path: Path) -> Teacher:
    """The image tower alone, as MILAN sees it."""
    if name == CLIP:
        return CLIPTeacher(CLIP, str(path), STATS, STATS).eval()
    return TimmTeacher(SLIP_TOWER, str(path), STATS, STATS, projection_dims=128).eval()


def encode_texts(model: open_clip.CLIP, captions: list[str]) -> Tensor:
    """Normalised text features, (B, C) float32."""
    tokens = torch.stack([torch.from_numpy(encode_caption(text)) for text in captions])
    return encode_tokens(model, tokens)
