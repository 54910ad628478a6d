"""What a config beside or inside a weights file says about the encoder."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HubFacts:
    """Options of an encoder that a config states; None where it states none.

    Attributes:
        system: Key of `SYSTEMS`.
        stats: See `stats_text`.
        named: Which config, for messages.
        foreign: What it says of a model that is not known here, so that nothing else is taken.
    """

    system: str | None = None
    embed_dims: int | None = None
    img_size: int | None = None
    patch_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    norm_eps: float | None = None
    act: str | None = None
    num_registers: int | None = None
    rope_base: float | None = None
    pos_resize: str | None = None
    stats: str | None = None
    pooling: str | None = None
    named: str = "config.json"
    foreign: str | None = None
