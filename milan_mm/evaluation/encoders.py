"""The encoder of a weights file, with its architecture read from the tensors."""

from pathlib import Path

from milan_mm.models.block import EncoderLayer
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import DEFAULTS, Encoder
from milan_mm.weights.loading import LoadReport, load_encoder, model_options
from milan_mm.weights.recognising import read_encoder


def load_frozen_encoder(
    source: str | Path | Encoder, num_heads: int | None = None
) -> tuple[PlainViT, LoadReport]:
    """The encoder of any weights file, frozen; it returns all tokens ('raw').

    Args:
        source: A file, see `read_encoder`, or what was read from it.
        num_heads: Of the attention, where neither the file nor its width and depth settle it.

    Raises:
        FileNotFoundError, ValueError: See `read_encoder`, `load_encoder`.
    """
    encoder = source if isinstance(source, Encoder) else read_encoder(source, num_heads=num_heads)
    vit = PlainViT(**encoder.model_settings(), **encoder.dense, out_type="raw", frozen=True)
    report = load_encoder(vit, encoder)
    return vit.eval(), report


def heads_of(vit: PlainViT) -> int:
    """Attention heads of an encoder."""
    first = vit.layers[0]
    assert isinstance(first, EncoderLayer)
    return first.attn.num_heads


def random_encoder_like(vit: PlainViT) -> PlainViT:
    """An untrained encoder of the same architecture, drawn from torch's generator."""
    options = model_options(vit)
    return PlainViT(
        dict(embed_dims=vit.embed_dims, num_layers=vit.num_layers, num_heads=heads_of(vit)),
        img_size=vit.grid_size[0] * vit.patch_size,
        patch_size=vit.patch_size,
        with_cls_token=vit.with_cls_token,
        out_type="raw",
        frozen=True,
        **{name: value for name, value in options.items() if value != DEFAULTS[name]},
    ).eval()
