"""`milan_mm.load_encoder`: from a file or a name to an `Encoder`."""

from pathlib import Path

import torch

from milan_mm.encoder.module import Encoder
from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.vit_options import pair
from milan_mm.weights.encoder import Encoder as Weights
from milan_mm.weights.loading import load_encoder as fill
from milan_mm.weights.recognising import read_encoder


def load_encoder(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    img_size: int | tuple[int, int] | None = None,
    layout: str | None = None,
    system: str | None = None,
    num_heads: int | None = None,
    student: bool = False,
    trust_pickle: bool = False,
) -> Encoder:
    """Load a pretrained encoder, of any system that this package knows.

    Args:
        source: A weights file or its folder, a training checkpoint of this package, or a name of
            `list_encoders`.
        device: Where its parameters go.
        img_size: Side or (height, width) in pixels of the images to come. Positions are resized to
            it once, here; without it they are resized in each call.
        layout, system, num_heads, student, trust_pickle: What the file does not say, see
            `milan_mm.weights.recognising.read_encoder`.

    Returns:
        The encoder in eval mode; its parameters take gradients.

    Raises:
        MissingFileError, UserError: When there is no such file, or no complete encoder in it.
    """
    where = _device(device)
    weights = read_encoder(
        source,
        layout=layout,
        system=system,
        num_heads=num_heads,
        student=student,
        trust_pickle=trust_pickle,
    )
    return build(weights, img_size).to(where)


def build(weights: Weights, img_size: int | tuple[int, int] | None = None) -> Encoder:
    """The module of an encoder that was read, in eval mode on the CPU; see `load_encoder`."""
    options = weights.model_settings() | weights.dense
    # the norm after pooling exists with this output only
    options["out_type"] = "avg_featmap" if "ln2.weight" in weights.state_dict else "raw"
    if img_size is not None:
        options["img_size"] = height, width = pair(img_size)
        if options.get("rel_pos_bias_grid"):
            patch = options["patch_size"]
            options["rel_pos_bias_grid"] = (height // patch, width // patch)
    vit = PlainViT(**options)
    fill(vit, weights, square=True)  # as `read_encoder` takes every table to be
    return Encoder(vit, weights).eval()


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device '{name}': {reason}; use device='cpu'") from None
