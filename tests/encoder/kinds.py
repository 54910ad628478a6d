"""Small encoders of every kind: other positions, norms, tokens, activations."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from milan_mm.encoder.loading import build
from milan_mm.encoder.module import Encoder, Tokens
from milan_mm.weights.encoder import Encoder as Weights
from milan_mm.weights.recognising import read_encoder
from tests.helpers import save_state, tiny_vit
from tests.weights import zoo

# System of `tests/weights/zoo.py` -> what is special about its encoder.
KINDS = {
    "mae": "a table, resized bicubically",
    "ibot": "sides scaled by an offset",
    "dinov2": "registers, layer scale, antialiased",
    "openai_clip": "a norm before the first block, QuickGELU, no patch bias",
    "swag": "corners keep their values",
    "augreg_npz": "linear, corners keep their values",
    "dinov3_timm": "rotary positions",
    "beit": "relative position bias",
    "finetuned_mae": "no final norm, a norm after pooling",
}
# What `build` makes of options that no file of another system has.
OWN: dict[str, Callable[[], Encoder]] = {
    "windows": lambda: _own(window_size=2, global_layers=(1,), rel_pos_grid=(4, 4)),
    "no class token": lambda: _own(pos_resize="bilinear"),
    "all in one block": lambda: _own(
        arch=dict(embed_dims=48, num_layers=1, num_heads=4),
        with_cls_token=True,
        num_registers=2,
        rope_base=100.0,
        layer_scale=1.0,
        pos_resize="bicubic-antialias",
    ),
}


def weights_of(kind: str, folder: Path) -> Weights:
    """Read one of the files of `KINDS`, or another one of the zoo."""
    return read_encoder(save_state(zoo.SYSTEMS[kind](folder).content, folder), num_heads=4)


def encoder_of(kind: str, folder: Path) -> Encoder:
    """One of `KINDS` or `OWN`."""
    return OWN[kind]() if kind in OWN else build(weights_of(kind, folder))


def images_of(encoder: Encoder, *shape: int) -> Tensor:
    """(B, 3, h*p, w*p) for a shape (B, h, w)."""
    batch, rows, columns = shape
    return torch.randn(batch, 3, rows * encoder.patch_size, columns * encoder.patch_size)


def present(tokens: Tokens) -> list[Tensor]:
    """All of them but a class token that is not there."""
    return [t for t in tokens if t is not None]


def _own(**options: object) -> Encoder:
    vit = tiny_vit(**(dict(with_cls_token=False, out_type="raw") | options))
    weights = Weights("own", "mmpretrain", vit.state_dict(), {}, "milan_mm", "imagenet", "mean")
    return Encoder(vit, weights).eval()
