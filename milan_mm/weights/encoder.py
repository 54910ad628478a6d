"""A pretrained encoder as this package knows it: tensors, options, origin, statistics."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.vit_options import WEIGHT_OPTIONS, ViTOptions
from milan_mm.weights.position_rows import sincos_order


@dataclass
class Encoder:
    """A pretrained encoder, and all that is known about it.

    Attributes:
        source: The file.
        layout: Key of `LAYOUTS`.
        state_dict: float32 tensors under the names of `PlainViT`.
        settings: Keyword arguments of `PlainViT`. `arch` has no `num_heads` where they are
            unknown, and there is no `img_size` where the position table is of no square grid.
        system: Key of `SYSTEMS`: the most probable origin.
        stats: Key of `STATS`: how the images of the pretraining were normalised.
        pooling: 'cls' or 'mean', what the system's own classification takes.
        assumed: Setting or attribute -> sentence, where the file does not tell the value.
        dropped: Name in the file -> why it is no part of the encoder.
        added: Name here -> what was made up, since the file has no such tensor.
        theirs: Name here -> name in the file.
        options: Those of `READ_OPTIONS` that were given, to read the file the same way again.
    """

    source: str
    layout: str
    state_dict: dict[str, Tensor]
    settings: dict[str, Any]
    system: str
    stats: str
    pooling: str
    assumed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def model_settings(self) -> dict[str, Any]:
        """The settings that differ from the defaults of `PlainViT`, complete enough to build one.

        Raises:
            UserError: When the heads or the grid of the position table are unknown.
        """
        arch = self.settings["arch"]
        if "num_heads" not in arch:
            raise UserError(
                f"{self.source} has {arch['num_layers']} blocks of width {arch['embed_dims']}, and "
                "no tensor tells the number of attention heads: pass --num-heads, that of the "
                "pretraining"
            )
        if "img_size" not in self.settings:
            table = self.state_dict["pos_embed"]
            num_patches = table.shape[1] - int("cls_token" in self.state_dict)
            raise UserError(
                f"{self.source} has positions for {num_patches} patches, which is no square grid: "
                "such encoders are not supported here"
            )
        return {n: v for n, v in self.settings.items() if n not in DEFAULTS or v != DEFAULTS[n]}


# Of `PlainViT`: what a setting is where nobody sets it.
DEFAULTS: dict[str, Any] = {name: getattr(ViTOptions, name) for name in WEIGHT_OPTIONS}


def sincos_table(encoder: Encoder) -> str | None:
    """See `sincos_order`; None without a position table."""
    table = encoder.state_dict.get("pos_embed")
    return None if table is None else sincos_order(table)
