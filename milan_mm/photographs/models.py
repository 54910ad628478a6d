"""The small CLIP of photographs as a model of open_clip, and as MILAN's teacher."""

from collections.abc import Sequence
from pathlib import Path

import open_clip
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.photographs.captions import tokens_of
from milan_mm.pretrain.clip_training import STATS, create_clip, encode_tokens
from milan_mm.pretrain.teacher_clip import CLIPTeacher, model_config
from milan_mm.weights.reading import read_checkpoint

CLIP = "photos-clip"
SIZE = 64  # side of its images in pixels
# Metadata of its files.
NO_CAPTIONS = "none"  # under `captions`: its text tower is untrained
PROCESSOR_SECONDS = "processor_seconds"  # that it took


def num_heads() -> int:
    """Attention heads of the image tower, which no tensor of its file shows."""
    tower = model_config(CLIP)["vision_cfg"]
    return tower["width"] // tower["head_width"]


def create(patch_dropout: float = 0.0) -> open_clip.CLIP:
    """A model with random weights."""
    return create_clip(CLIP, SIZE, patch_dropout)


def with_dropout(model: open_clip.CLIP, patch_dropout: float) -> open_clip.CLIP:
    """The same weights in a model that drops another share of the patches."""
    other = create(patch_dropout)
    other.load_state_dict(model.state_dict())
    return other


def load(path: str | Path) -> open_clip.CLIP:
    """The whole model from a file of tools/train_photographs_clip.py.

    Raises:
        MissingFileError: When there is no such file.
        UserError: When it holds something else, a CLIP of another size for example.
    """
    model, weights = create(), read_checkpoint(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(getattr(tensor, "shape", ())) for name, tensor in weights.items()}
    if differing := [name for name in wanted | found if wanted.get(name) != found.get(name)]:
        name = differing[0]
        raise UserError(
            f"weights file '{path}' is not a {CLIP}: '{name}' is {found.get(name, 'missing')}, and "
            f"{wanted.get(name, 'unknown')} there; train one by tools/train_photographs_clip.py"
        )
    model.load_state_dict(weights)
    return model.eval()


def load_teacher(path: str | Path) -> CLIPTeacher:
    """The image tower alone, as MILAN sees it."""
    return CLIPTeacher(CLIP, str(path), STATS, STATS).eval()


def encode_texts(model: open_clip.CLIP, captions: Sequence[str]) -> Tensor:
    """Normalised text features, (B, C) float32."""
    return encode_tokens(model, tokens_of(captions))
