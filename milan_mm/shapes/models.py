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
from milan_mm.pretrain.teacher import Teacher
from milan_mm.pretrain.teacher_clip import CLIPTeacher, model_config
from milan_mm.pretrain.teacher_timm import SHIPPED_TOWERS, TimmTeacher
from milan_mm.shapes.captions import encode_caption
from milan_mm.weights.names import ASSETS
from milan_mm.weights.reading import read_checkpoint, tensors_sha256
from milan_mm.weights.statistics import STATS as ENCODER_STATS
from milan_mm.weights.storing import save_tensors

CLIP, SLIP = "shapes-clip", "shapes-slip"
SLIP_TOWER = "vit_shapes_patch8_96"
# The paper's code feeds the teacher ImageNet-normalised images; the tiny towers learn on the same.
MEAN, STD = ENCODER_STATS["imagenet"]
STATS = dict(mean=[255 * value for value in MEAN], std=[255 * value for value in STD])
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
    config = model_config(CLIP)
    config["vision_cfg"] |= dict(image_size=image_size, patch_dropout=patch_dropout)
    return open_clip.CLIP(**config)


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


def save(
    model: open_clip.CLIP,
    name: str,
    out: Path,
    command: str,
    numbers: Mapping[str, float] | None = None,
) -> None:
    """Write fp16 weights, how they came about, and the evaluation.

    An interrupted save leaves the old file whole.
    """
    tensors = {n: t.half().contiguous() for n, t in model.state_dict().items()}
    metadata = {
        "model": name,
        "command": command,
        "evaluation": json.dumps({key: round(value, 4) for key, value in (numbers or {}).items()}),
        "image_mean": json.dumps(MEAN),
        "image_std": json.dumps(STD),
        "sha256": tensors_sha256(tensors),
    }
    save_tensors(out, tensors, metadata)


def load(name: str, path: Path) -> open_clip.CLIP:
    """The whole model, for images of 96 pixels, from a file that `save` wrote."""
    model = create(name)
    model.load_state_dict(read_checkpoint(path))
    return model.eval()


def load_teacher(name: str, path: Path) -> Teacher:
    """The image tower alone, as MILAN sees it."""
    if name == CLIP:
        return CLIPTeacher(CLIP, str(path), STATS, STATS).eval()
    return TimmTeacher(SLIP_TOWER, str(path), STATS, STATS, projection_dims=128).eval()


def encode_texts(model: open_clip.CLIP, captions: list[str]) -> Tensor:
    """Normalised text features, (B, C) float32.

    open_clip's `encode_text` without its padding: causal attention makes the result the same, and
    most captions fill a third of the context.
    """
    tokens = torch.stack([torch.from_numpy(encode_caption(text)) for text in captions])
    ends = tokens.argmax(1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x)), ends]
    return F.normalize(x @ model.text_projection, dim=-1)
