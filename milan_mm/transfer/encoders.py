"""The encoder of a weights file, with its architecture read from the tensors."""

from pathlib import Path

from torch import Tensor

from milan_mm.layers import EncoderLayer
from milan_mm.vit import ARCHS, PlainViT
from milan_mm.weights.loading import encoder_state_dict, load_encoder
from milan_mm.weights.reading import read_checkpoint


def encoder_settings(
    state_dict: dict[str, Tensor], path: str | Path, num_heads: int | None = None
) -> dict:
    """Arguments of the `PlainViT` that a file was written by.

    Args:
        state_dict: Of the encoder, under the names of `PlainViT`.
        path: Of the file, for messages.
        num_heads: Of the attention, which no tensor tells. None takes those of the architecture in
            `ARCHS` with this width and depth.

    Raises:
        ValueError: When the heads cannot be known, or the position table is of no square grid.
    """
    embed_dims, _, patch_size, _ = state_dict["patch_embed.projection.weight"].shape
    num_layers = len({n.split(".")[1] for n in state_dict if n.startswith("layers.")})
    sizes = dict(embed_dims=embed_dims, num_layers=num_layers)
    if num_heads is None:
        known = [a["num_heads"] for a in ARCHS.values() if sizes.items() <= a.items()]
        if not known:
            raise ValueError(
                f"{path} has {num_layers} blocks of width {embed_dims}, and no tensor tells the "
                "number of attention heads: pass --num-heads, that of the pretraining"
            )
        num_heads = known[0]
    with_cls_token = "cls_token" in state_dict
    num_rows = state_dict["pos_embed"].shape[1] if "pos_embed" in state_dict else 0
    num_patches = num_rows - int(with_cls_token)
    side = round(max(num_patches, 0) ** 0.5)
    if not side or side**2 != num_patches:
        raise ValueError(
            f"{path} has positions for {num_patches} patches, which is no square grid: such "
            "encoders are not supported here"
        )
    return dict(
        arch=sizes | dict(num_heads=num_heads),
        img_size=side * patch_size,
        patch_size=patch_size,
        with_cls_token=with_cls_token,
        final_norm="ln1.weight" in state_dict,  # finetuned and dense models have none
    )


def load_frozen_encoder(path: str | Path, num_heads: int | None = None) -> PlainViT:
    """The encoder of an exported file or a checkpoint, frozen; it returns all tokens ('raw').

    Raises:
        FileNotFoundError, ValueError: See `read_checkpoint`, `load_encoder`, `encoder_settings`.
    """
    state_dict = encoder_state_dict(read_checkpoint(path), path)
    settings = encoder_settings(state_dict, path, num_heads)
    vit = PlainViT(**settings, out_type="raw", frozen=True)
    load_encoder(vit, path)
    return vit.eval()


def heads_of(vit: PlainViT) -> int:
    """Attention heads of an encoder."""
    first = vit.layers[0]
    assert isinstance(first, EncoderLayer)
    return first.attn.num_heads


def random_encoder_like(vit: PlainViT) -> PlainViT:
    """An untrained encoder of the same architecture, drawn from torch's generator."""
    return PlainViT(
        dict(embed_dims=vit.embed_dims, num_layers=vit.num_layers, num_heads=heads_of(vit)),
        img_size=vit.grid_size[0] * vit.patch_size,
        patch_size=vit.patch_size,
        with_cls_token=vit.with_cls_token,
        out_type="raw",
        frozen=True,
    ).eval()
