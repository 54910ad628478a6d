"""The size of the pretraining's images: what a file implies, and what its origin says of it.

A patch embedding of 8 pixels is as whole as one of 16, and so is a table for any square grid. Only
together they tell something: patch times grid is the side of the images that were seen.
"""

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.finding import Found
from milan_mm.weights.hub import HubFacts
from milan_mm.weights.settings import HEADS
from milan_mm.weights.systems import SYSTEMS


def check_img_size(encoder: Encoder, found: Found, facts: HubFacts, guessed: bool) -> None:
    """Refuse patches and positions that do not belong together, where anything tells.

    Args:
        facts: Of a config.json.
        guessed: Neither the user nor a config named the system. A system that is told may have
            any size; one whose published sizes contradict the file was guessed wrongly.

    Raises:
        UserError: When the size differs from that in a config.json or in CLIP's own file, or is
            none of the published ones of the system that the file is taken for.
    """
    implied = encoder.settings.get("img_size")
    if implied is None or "img_size" in encoder.assumed:
        return
    patch = encoder.settings["patch_size"]
    if facts.img_size is not None:  # the config tells the patch as well; images may be a bit larger
        if facts.img_size // patch * patch != implied:
            raise UserError(
                f"{_sizes(encoder)}, but config.json says image_size={facts.img_size}: the two "
                "files do not belong together"
            )
        return
    resolution = _resolution(found)
    if resolution is not None and resolution != implied:
        raise UserError(
            f"{_sizes(encoder)}, but 'input_resolution' is {resolution}: the file is damaged"
        )
    arch, sizes = encoder.settings["arch"], SYSTEMS[encoder.system].sizes
    is_usual = (arch["embed_dims"], arch["num_layers"]) in HEADS
    if sizes and is_usual and guessed and implied not in sizes:
        known = " and ".join(map(str, sizes))
        raise UserError(
            f"{_sizes(encoder)}, but {encoder.system}, which the file is taken for, published ViTs "
            f"for {known} pixels only: the file is damaged or of another system; if it was trained "
            f"so, say where it is from, e.g. --system '{encoder.system}'"
        )


def _sizes(encoder: Encoder) -> str:
    """Both tensors by their names in the file, and what they imply."""
    patch, implied = encoder.settings["patch_size"], encoder.settings["img_size"]
    side = implied // patch
    names = ("pos_embed", "layers.0.attn.relative_position_bias_table")
    positions = next(encoder.theirs[name] for name in names if name in encoder.theirs)
    return (
        f"{encoder.source}: '{encoder.theirs['patch_embed.projection.weight']}' has patches of "
        f"{patch} pixels and '{positions}' a grid of {side}x{side}, together images of {implied} "
        "pixels"
    )


def _resolution(found: Found) -> int | None:
    """What OpenAI's CLIP files say of their images."""
    value = found.state_dict.get("input_resolution")
    if not isinstance(value, Tensor) or value.device.type != "cpu":
        return None
    return int(value) if value.dtype == torch.int64 and value.shape == () else None
